"""What the recorded updates say of each run: trust region, value function, time and memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sb3_ppo_variants.compare.cells import Cell
from sb3_ppo_variants.compare.report.scores import Matrix
from sb3_ppo_variants.trust_region_log import KL_MEASURES

KL_TOLERANCE = 1.5
"""A KL divergence within this factor of its target is in the band; PPO paper (arXiv:1707.06347), section 4."""


class Trace(NamedTuple):
    """Columns of the updates of one run; see ``sb3_ppo_variants.trust_region_log``.

    :param columns: by name, shape (n_updates,); NaN where nothing was logged
    """

    columns: dict[str, Matrix]

    def get(self, name: str) -> Matrix | None:
        """Return a column, or None if the algorithm does not log it."""
        return self.columns.get(name)

    def kl(self) -> tuple[str, Matrix] | None:
        """Return the best measure of the KL divergence that there is, with its name."""
        return next(((name, self.columns[name]) for name in KL_MEASURES if name in self.columns), None)


def read_traces(results: Mapping[Cell, dict[str, Any]], arm: str, env: str) -> list[Trace]:
    """Give the traces of an arm on an environment, one per seed.

    :param results: by cell
    :param arm: its label
    :param env: environment ID
    """
    found = [result["trace"] for cell, result in results.items() if (cell.arm, cell.env) == (arm, env)]
    return [Trace({name: np.array(column, dtype=float) for name, column in trace.items()}) for trace in found if trace]


def per_run(traces: Sequence[Trace], condense: Callable[[Trace], float | None]) -> Matrix:
    """Condense each run to a number and leave out those that have none.

    :param traces: of the runs
    :param condense: trace -> number, or None
    :return: shape (n_runs_with_a_number,)
    """
    numbers = [condense(trace) for trace in traces]
    return np.array([number for number in numbers if number is not None and np.isfinite(number)])


def average(name: str) -> Callable[[Trace], float | None]:
    """Return a function that averages a column over all updates.

    :param name: of the column
    """

    def condense(trace: Trace) -> float | None:
        column = trace.get(name)
        return None if column is None else float(np.nanmean(column))

    return condense


def last(name: str) -> Callable[[Trace], float | None]:
    """Return a function that takes a column's value after the last update.

    :param name: of the column
    """

    def condense(trace: Trace) -> float | None:
        column = trace.get(name)
        return None if column is None else float(column[-1])

    return condense


def clip_fraction(trace: Trace) -> Matrix | None:
    """Return the shares of clipped samples; None without a clip, whatever was logged."""
    return None if trace.get("clip_range") is None else trace.get("clip_fraction")


def mean_clip_fraction(trace: Trace) -> float | None:
    """Average the share of clipped samples over all updates."""
    shares = clip_fraction(trace)
    return None if shares is None else float(np.nanmean(shares))


def median_kl(trace: Trace) -> float | None:
    """Take the median KL divergence of the updates, nats per state."""
    kl = trace.kl()
    return None if kl is None else float(np.nanmedian(kl[1]))


def kl_over_target(trace: Trace) -> Matrix | None:
    """Divide each update's exact KL divergence by its target; None unless both were logged."""
    kl, target = trace.get("kl_divergence"), trace.get("target_kl")
    return None if kl is None or target is None else kl / target


def median_kl_over_target(trace: Trace) -> float | None:
    """Take the median of KL divergence over target."""
    ratio = kl_over_target(trace)
    return None if ratio is None else float(np.nanmedian(ratio))


def share_in_band(trace: Trace) -> float | None:
    """Take the share of updates whose KL divergence lies between target / 1.5 and 1.5 target."""
    ratio = kl_over_target(trace)
    return None if ratio is None else float(np.mean((ratio >= 1 / KL_TOLERANCE) & (ratio <= KL_TOLERANCE)))


def share_above_band(trace: Trace) -> float | None:
    """Take the share of updates whose KL divergence lies above 1.5 target."""
    ratio = kl_over_target(trace)
    return None if ratio is None else float(np.mean(ratio > KL_TOLERANCE))


def costs(results: Mapping[Cell, dict[str, Any]], arm: str, env: str, name: str) -> Matrix:
    """Give one cost of each run of an arm on an environment.

    :param results: by cell
    :param arm: its label
    :param env: environment ID
    :param name: ``"train_seconds"``, ``"cpu_seconds"`` or ``"peak_memory_mib"``
    :return: shape (n_seeds,)
    """
    return np.array([r["cost"][name] for cell, r in results.items() if (cell.arm, cell.env) == (arm, env)])


__all__ = ["KL_TOLERANCE", "Trace", "average", "clip_fraction", "costs", "kl_over_target", "last", "median_kl"]
__all__ += [
    "mean_clip_fraction",
    "median_kl_over_target",
    "per_run",
    "read_traces",
    "share_above_band",
    "share_in_band",
]

"""What the recorded updates say of each run: trust region and value function."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from sb3_ppo_variants.compare.report.scores import Matrix
from sb3_ppo_variants.trust_region_log import KL_MEASURES

KL_TOLERANCE = 1.5
"""A KL divergence within this factor of its target is in the band; PPO paper (arXiv:1707.06347), section 4."""

Trace = Mapping[str, Matrix]
"""Columns of a run's updates by name, NaN where nothing was logged; see ``sb3_ppo_variants.trust_region_log``."""

Read = Callable[[Trace], Matrix | None]
"""Takes the values of all updates from a trace; None if the algorithm does not log them."""

Condense = Callable[[Trace], float | None]
"""Makes a number of a trace; None if the algorithm does not log what it needs."""


def read_traces(results: Iterable[Mapping[str, Any]]) -> list[Trace]:
    """Give the traces of runs, without those that have none.

    :param results: of the runs
    """
    found = [result["trace"] for result in results]
    return [{name: np.array(column, dtype=float) for name, column in trace.items()} for trace in found if trace]


def per_run(traces: Sequence[Trace], condense: Condense) -> Matrix:
    """Condense each run to a number and leave out those that have none.

    :param traces: of the runs
    :param condense: trace -> number, or None
    :return: shape (n_runs_with_a_number,)
    """
    numbers = [condense(trace) for trace in traces]
    return np.array([number for number in numbers if number is not None and np.isfinite(number)])


def column(name: str) -> Read:
    """Return what reads a column.

    :param name: of the column
    """
    return lambda trace: trace.get(name)


def best_kl(trace: Trace) -> tuple[str, Matrix] | None:
    """Return the best measure of the KL divergence that there is, with its name."""
    return next(((name, trace[name]) for name in KL_MEASURES if name in trace), None)


def kl(trace: Trace) -> Matrix | None:
    """Return the KL divergence by the best measure that there is, nats per state."""
    found = best_kl(trace)
    return None if found is None else found[1]


def clip_fraction(trace: Trace) -> Matrix | None:
    """Return the shares of clipped samples; None without a clip, whatever was logged."""
    return None if trace.get("clip_range") is None else trace.get("clip_fraction")


def adaptive_learning_rate(trace: Trace) -> Matrix | None:
    """Return the learning rates; None unless the KL divergence moves them."""
    return None if trace.get("lr_scale") is None else trace.get("learning_rate")


def kl_over_target(trace: Trace) -> Matrix | None:
    """Divide each update's exact KL divergence by its target; None unless both were logged."""
    exact, target = trace.get("kl_divergence"), trace.get("target_kl")
    return None if exact is None or target is None else exact / target


def condensed(read: Read, condense: Callable[[Matrix], Any]) -> Condense:
    """Return a function that makes a number of what is read from a trace.

    :param read: what of the trace
    :param condense: values of all updates -> number
    """

    def number(trace: Trace) -> float | None:
        values = read(trace)
        return None if values is None else float(condense(values))

    return number


def average(name: str) -> Condense:
    """Return a function that averages a column over all updates.

    :param name: of the column
    """
    return condensed(column(name), np.nanmean)


def last(name: str) -> Condense:
    """Return a function that takes a column's value after the last update.

    :param name: of the column
    """
    return condensed(column(name), itemgetter(-1))


median_kl = condensed(kl, np.nanmedian)
median_kl_over_target = condensed(kl_over_target, np.nanmedian)
mean_clip_fraction = condensed(clip_fraction, np.nanmean)
share_in_band = condensed(kl_over_target, lambda x: np.mean((x >= 1 / KL_TOLERANCE) & (x <= KL_TOLERANCE)))
share_above_band = condensed(kl_over_target, lambda x: np.mean(x > KL_TOLERANCE))

__all__ = ["KL_TOLERANCE", "Condense", "Read", "Trace", "adaptive_learning_rate", "average", "best_kl", "clip_fraction"]
__all__ += [
    "column",
    "kl",
    "kl_over_target",
    "last",
    "mean_clip_fraction",
    "median_kl",
    "median_kl_over_target",
]
__all__ += ["per_run", "read_traces", "share_above_band", "share_in_band"]

"""What a figure of runs draws of several of them: one quantity over time, and the target of the KL divergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.trust_region_log import Table

FloatArray = npt.NDArray[np.float64]

Line = tuple[FloatArray, FloatArray]
"""Time steps, and the values at them."""


class Curve(NamedTuple):
    """One quantity of several runs over the time steps that all of them have, and beyond these the runs as they are."""

    steps: FloatArray
    mean: FloatArray
    lowest: FloatArray
    highest: FloatArray
    rests: list[Line]

    def values(self) -> FloatArray:
        """Return all that is drawn."""
        return np.concatenate([self.lowest, self.highest, *(values for _, values in self.rests)])

    def raised(self, least: float) -> Curve:
        """Raise what is below a bound to it.

        :param least: the bound
        """
        mean, lowest, highest = (np.maximum(part, least) for part in (self.mean, self.lowest, self.highest))
        rests = [(steps, np.maximum(values, least)) for steps, values in self.rests]
        return Curve(self.steps, mean, lowest, highest, rests)


def is_logged(runs: Sequence[Table], name: str) -> bool:
    """Say whether any of some runs has a quantity.

    :param runs: update tables
    :param name: of the column
    """
    return any(bool(np.isfinite(run[name]).any()) for run in runs)


def _known(runs: Sequence[Table], name: str) -> list[Line]:
    known = [(run, np.isfinite(run[name])) for run in runs]
    return [(run["timesteps"][at], run[name][at]) for run, at in known if at.any()]


def curve_of(runs: Sequence[Table], name: str) -> Curve:
    """Put several runs together; between its updates a run is interpolated.

    :param runs: update tables, of which at least one has the quantity
    :param name: of the column
    """
    known = _known(runs, name)
    begin, end = max(x[0] for x, _ in known), min(x[-1] for x, _ in known)
    steps = np.unique(np.concatenate([x for x, _ in known]))
    steps = steps[(begin <= steps) & (steps <= end)]
    table = np.array([np.interp(steps, x, y) for x, y in known])
    rests = [rest for line in known for rest in _rests(*line, begin, end)]
    return Curve(steps, table.mean(axis=0), table.min(axis=0), table.max(axis=0), rests)


def _rests(x: FloatArray, y: FloatArray, begin: float, end: float) -> list[Line]:
    """Return what a run has before and after the time steps of all: all of it if there are none."""
    if begin > end:
        return [(x, y)]
    outside = ((x[x < begin], begin), (x[x > end], end))
    places = [np.sort(np.append(steps, edge)) for steps, edge in outside if len(steps)]
    return [(steps, np.interp(steps, x, y)) for steps in places]


def target_of(label: str, runs: Sequence[Table]) -> Line:
    """Return the target of runs that are drawn as one, over all time steps that any of them has.

    :param label: of the runs
    :param runs: update tables, of which at least one has a target
    :raises ValueError: if theirs differ by more than interpolation may
    """
    known = _known(runs, "target_kl")
    steps = np.unique(np.concatenate([x for x, _ in known]))
    table = np.array([np.interp(steps, x, y, left=np.nan, right=np.nan) for x, y in known])
    low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    worst = int((high - low).argmax())
    require(
        bool((high - low <= 0.01 * high).all()),
        f"runs that are drawn as one, here as {label!r}, must have the same target_kl",
        [float(f"{target:.3g}") for target in np.unique(table[:, worst][np.isfinite(table[:, worst])])],
        "give each setting a label: `--runs LABEL FILE ...` in the command, a dictionary of lists in a program",
    )
    return steps, np.nanmean(table, axis=0)


__all__ = ["Curve", "FloatArray", "Line", "curve_of", "is_logged", "target_of"]

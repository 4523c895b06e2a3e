"""Intervals, by rliable (Agarwal et al., arXiv:2108.13264): stratified bootstrap over runs, 95 %, percentile method."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import scipy.stats
from rliable import library, metrics

from sb3_ppo_variants.compare.report.scores import Matrix

REPETITIONS = 2000
"""Bootstrap samples, as in rliable's own examples; the ends of an interval then vary by about 2 % of its length."""

TIE = 1e-3
"""Of the way from a random policy's score to the best: two runs that differ by no more are a tie."""

FEW_RUNS = 5
"""With fewer runs than this no claim is made."""


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Say whether a value lies outside the interval."""
        return not self.low <= value <= self.high


class Curve(NamedTuple):
    """Numbers with their 95 % intervals, shape (n_points,) each."""

    value: Matrix
    low: Matrix
    high: Matrix


AGGREGATES: dict[str, Callable[[Matrix], float]] = {
    "IQM": metrics.aggregate_iqm,
    "median": metrics.aggregate_median,
    "mean": metrics.aggregate_mean,
    "optimality gap": metrics.aggregate_optimality_gap,
}


def aggregate(scores: Mapping[str, Matrix]) -> dict[str, dict[str, Estimate]]:
    """Estimate IQM, median, mean and optimality gap.

    :param scores: normalised, shape (n_runs, n_envs), by arm
    :return: by arm and name of the aggregate
    """
    curves = _estimate(scores, lambda x: np.array([function(x) for function in AGGREGATES.values()]))
    return {arm: dict(zip(AGGREGATES, _numbers(curve))) for arm, curve in curves.items()}


def probability_of_improvement(scores: Mapping[str, Matrix], baseline: str) -> dict[str, Estimate]:
    """Estimate how likely a run of an arm is to beat one of the baseline, averaged over environments.

    Runs that differ by up to ``TIE`` count half: policies that stand still differ in the fifth decimal, and by nothing.

    :param scores: normalised, shape (n_runs, n_envs), by arm
    :param baseline: whose label
    :return: by arm, without the baseline
    """
    pairs = {arm: (of_arm, scores[baseline]) for arm, of_arm in scores.items() if arm != baseline}
    return {arm: _numbers(curve)[0] for arm, curve in _estimate(pairs, _probability).items()}


def mean_difference(first: Matrix, second: Matrix) -> Estimate:
    """Estimate the difference of two means of independent runs.

    :param first: shape (n_runs,)
    :param second: shape (n_runs,), maybe of another length
    """
    return estimates((first[:, None], second[:, None]), lambda x, y: np.mean(x) - np.mean(y))[0]


def mean_ratio(first: Matrix, second: Matrix) -> Estimate:
    """Estimate the ratio of two means of independent runs.

    :param first: shape (n_runs,)
    :param second: shape (n_runs,), positive
    """
    return estimates((first[:, None], second[:, None]), lambda x, y: np.mean(x) / np.mean(y))[0]


def mean(values: Matrix) -> Estimate:
    """Estimate a mean over runs.

    :param values: shape (n_runs,)
    """
    return estimates(values[:, None], metrics.aggregate_mean)[0]


def estimates(runs: Matrix | tuple[Matrix, Matrix], function: Callable[..., Matrix | float]) -> list[Estimate]:
    """Estimate several numbers at once, from runs of one arm or from independent runs of two.

    :param runs: shape (n_runs, n_columns, ...), or two such, maybe of different sizes; the bootstrap draws runs of
        each column by themselves
    :param function: of one or two such arrays, returns a number or shape (n_numbers,)
    """
    return _numbers(_estimate({"": runs}, function)[""])


def mean_curve(curves: Matrix) -> Curve:
    """Estimate the mean over runs at each point.

    :param curves: shape (n_runs, n_points)
    """
    return _estimate({"": curves[:, None, :]}, lambda x: x.mean(axis=(0, 1)))[""]


def iqm_curve(curves: Mapping[str, Matrix]) -> dict[str, Curve]:
    """Estimate the IQM over runs and environments at each point.

    :param curves: normalised, shape (n_runs, n_envs, n_points), by arm
    """
    return _estimate(curves, lambda x: scipy.stats.trim_mean(x.reshape(-1, x.shape[-1]), 0.25, axis=0))


def performance_profile(scores: Mapping[str, Matrix], thresholds: Matrix) -> dict[str, Curve]:
    """Estimate the share of runs above each threshold.

    :param scores: normalised, shape (n_runs, n_envs), by arm
    :param thresholds: shape (n_points,)
    """
    with _same_samples_each_time():
        shares, intervals = library.create_performance_profile(dict(scores), thresholds, reps=REPETITIONS)
    return {arm: Curve(shares[arm], *intervals[arm]) for arm in scores}


def _probability(first: Matrix, second: Matrix) -> float:
    """Compute what ``rliable.metrics.probability_of_improvement`` does, without its p-values, which take 99 % of it.

    Its ties are equal numbers; these are equal to ``TIE``.
    """
    pairs = first[:, None] - second
    return float(np.mean((pairs > TIE) + (np.abs(pairs) <= TIE) / 2))


def _estimate(
    scores: Mapping[str, Matrix | tuple[Matrix, Matrix]],
    function: Callable[..., Matrix | float],
) -> dict[str, Curve]:
    with _same_samples_each_time():
        values, intervals = library.get_interval_estimates(dict(scores), function, reps=REPETITIONS)
    return {key: Curve(np.atleast_1d(values[key]), *np.atleast_2d(intervals[key])) for key in scores}


def _numbers(curve: Curve) -> list[Estimate]:
    return [Estimate(*map(float, numbers)) for numbers in zip(*curve)]


@contextlib.contextmanager
def _same_samples_each_time() -> Iterator[None]:
    """Seed numpy's global generator, which rliable's bootstrap draws from whatever `random_state` it is given."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


__all__ = ["AGGREGATES", "FEW_RUNS", "REPETITIONS", "TIE", "Curve", "Estimate", "aggregate", "iqm_curve", "mean"]
__all__ += [
    "estimates",
    "mean_curve",
    "mean_difference",
    "mean_ratio",
    "performance_profile",
    "probability_of_improvement",
]

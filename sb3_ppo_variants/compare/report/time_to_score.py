"""How long a run takes to a score: what a user feels, steps times speed."""

import numpy as np

from sb3_ppo_variants.compare.report.blocks import Table, number
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.scores import Matrix

FRACTIONS = (0.5, 0.75, 0.9, 1.0)
CLOCKS = {"timesteps": "steps", "train_seconds": "wall-clock s", "cpu_seconds": "processor s"}
"""What is counted up to an evaluation, and its unit."""


def target_score(comparison: Comparison, env: str, fraction: float) -> float | None:
    """Return the score that is a fraction of the way from the one that counts as 0 to the baseline's mean final score.

    :param comparison: all results
    :param env: environment ID
    :param fraction: in (0, 1]
    :return: None without runs of the baseline, without a score that counts as 0, or if they are not above that
    """
    base, low = comparison.raw("final", comparison.baseline, env), comparison.lowest_score(env)
    if not len(base) or low is None or not comparison.beats_zero(comparison.baseline, env):
        return None
    return low + fraction * (float(base.mean()) - low)


def spent_until(comparison: Comparison, arm: str, env: str, score: float, clock: str) -> Matrix:
    """Return what each run has spent at its first evaluation that reaches a score.

    :param comparison: all results
    :param arm: its label
    :param env: environment ID
    :param score: mean reward of an evaluation
    :param clock: one of ``CLOCKS``
    :return: shape (n_runs,); infinity for a run that never reaches it, NaN where the clock was not kept
    """
    found = []
    for result in comparison.of(arm, env):
        reached = (e.get(clock, np.nan) for e in result["evaluations"] if np.mean(e["rewards"]) >= score)
        found.append(next(reached, np.inf))
    return np.array(found, dtype=np.float64)


def time_table(comparison: Comparison, env: str) -> Table | None:
    """Tell how many steps and seconds each arm needs to fractions of the baseline's final score.

    :param comparison: all results
    :param env: environment ID
    """
    targets = [target_score(comparison, env, fraction) for fraction in FRACTIONS]
    scores = [score for score in targets if score is not None]
    if not scores:
        return None
    every = [
        [arm, unit, *(_median(comparison, arm, env, score, clock) for score in scores)]
        for arm in comparison.arms
        for clock, unit in CLOCKS.items()
    ]
    rows = [row for row in every if set(row[2:]) != {"–"}]
    header = ["", "", *(f"{fraction:.0%} ({number(score)})" for fraction, score in zip(FRACTIONS, scores))]
    return Table(header, rows, f"{env}: what it takes to fractions of the final score of {comparison.baseline}")


def passed(time: float) -> str:
    """Write seconds or steps; a run that is at its score before it trains has spent none.

    :param time: finite
    """
    return number(round(time, 3))


def _median(comparison: Comparison, arm: str, env: str, score: float, clock: str) -> str:
    spent = spent_until(comparison, arm, env, score, clock)
    if not len(spent) or np.isnan(spent).any():
        return "–"
    median = float(np.median(spent))
    text = passed(median) if np.isfinite(median) else "not reached"
    return f"{text} [{np.isfinite(spent).sum()} of {len(spent)}]"


__all__ = ["CLOCKS", "FRACTIONS", "passed", "spent_until", "target_score", "time_table"]

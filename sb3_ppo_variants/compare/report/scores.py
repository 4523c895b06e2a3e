"""Scores out of raw evaluations: one row per episode, one number per run, normalised per environment."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.integrate

from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell

Matrix = npt.NDArray[np.float64]

COLUMNS = ["algo", "env", "seed", "timesteps", "episode", "reward", "length"]
FINAL_SHARE = 0.1
"""The final score is the mean over the evaluations in this last part of the training."""


class Reference(NamedTuple):
    """The scores of an environment that become 0 and 1.

    :param low: the random policy's, unless given
    :param high: the best arm's mean final score, unless given
    """

    low: float
    high: float

    def normalise(self, score: Matrix) -> Matrix:
        """Map ``low`` to 0 and ``high`` to 1.

        :param score: any shape
        """
        return (score - self.low) / (self.high - self.low)


def episode_table(results: Mapping[Cell, dict[str, Any]]) -> pd.DataFrame:
    """Put all episodes into one table, the random policy's among them.

    :param results: by cell
    :return: columns ``COLUMNS``; ``algo`` is the label of the arm
    """
    rows = [
        (*cell, evaluation["timesteps"], episode, reward, length)
        for cell, result in results.items()
        for evaluation in result["evaluations"]
        for episode, (reward, length) in enumerate(zip(evaluation["rewards"], evaluation["lengths"]))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class Scores:
    """What the statistics are made of.

    :param curves: mean reward of each evaluation; rows are timesteps, columns are seeds; by arm and environment
    :param final: mean over the evaluations of the last tenth; rows are seeds, columns environments; by arm
    :param area: mean over the whole training (area under the curve divided by its length), likewise
    :param references: of the environments that can be normalised
    :param above_random: arm and environment where its final scores are clearly above those of random actions
    """

    curves: dict[str, dict[str, pd.DataFrame]]
    final: dict[str, pd.DataFrame]
    area: dict[str, pd.DataFrame]
    references: dict[str, Reference]
    above_random: Collection[tuple[str, str]]

    def matrix(self, kind: str, arm: str, envs: Sequence[str]) -> Matrix:
        """Return normalised scores of the seeds that have all of these environments.

        :param kind: ``"final"`` or ``"area"``
        :param arm: its label
        :param envs: ones with a reference
        :return: shape (n_seeds, n_envs), what rliable takes
        """
        table: pd.DataFrame = getattr(self, kind)[arm]
        complete = table.reindex(columns=list(envs)).dropna()
        columns = [self.references[env].normalise(complete[env].to_numpy(float)) for env in envs]
        return np.stack(columns, axis=1)

    def with_scores_of(self, lost: Mapping[Cell, float], arms: Sequence[str]) -> "Scores":
        """Give runs that have no score one; it moves no reference.

        :param lost: the score of each, in place of the final one and of that of the whole training
        :param arms: labels, in the order of the report
        """

        def filled(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
            full = {arm: tables[arm].copy() if arm in tables else pd.DataFrame(dtype=float) for arm in arms}
            for cell, score in lost.items():
                full[cell.arm].loc[cell.seed, cell.env] = score
            return {arm: table for arm, table in full.items() if table.size}

        return replace(self, final=filled(self.final), area=filled(self.area))

    def common_envs(self) -> list[str]:
        """Return the environments that can be normalised and on which every arm has a run."""
        return [env for env in self.references if all(table.get(env) is not None for table in self.final.values())]


def make_scores(
    episodes: pd.DataFrame, arms: Sequence[str], envs: Sequence[str], given: Mapping[str, Reference] | None = None
) -> Scores:
    """Condense episodes to scores; a run with a reward that is not finite has none.

    :param episodes: as from ``episode_table``
    :param arms: labels, in the order of the report
    :param envs: likewise
    :param given: references in place of the measured ones
    """
    finite = episodes["reward"].map(np.isfinite).groupby([episodes[name] for name in ("algo", "env", "seed")])
    episodes = episodes[finite.transform("all")]
    tables = {
        key: rows.pivot_table("reward", "timesteps", "seed").dropna(axis="columns")
        for key, rows in episodes.groupby(["algo", "env"])
    }
    of_arms = {arm: {env: tables[arm, env] for env in envs if (arm, env) in tables} for arm in arms}
    curves = {arm: of_envs for arm, of_envs in of_arms.items() if of_envs}
    final = {arm: pd.DataFrame({env: final_score(c) for env, c in of.items()}) for arm, of in curves.items()}
    area = {arm: pd.DataFrame({env: area_score(c) for env, c in of.items()}) for arm, of in curves.items()}
    random = dict(iter(episodes[episodes["algo"] == RANDOM_POLICY].groupby("env")["reward"]))
    above = _above_random(episodes, final, random)
    references = {**_references(final, envs, random, above), **(given or {})}
    return Scores(curves, final, area, references, above)


def final_score(curves: pd.DataFrame) -> "pd.Series[float]":
    """Average the evaluations of the last tenth of the training, per seed.

    :param curves: rows are timesteps, columns are seeds
    """
    return curves[curves.index > (1 - FINAL_SHARE) * curves.index.max()].mean()


def area_score(curves: pd.DataFrame) -> "pd.Series[float]":
    """Average over the whole training by the trapezoidal rule, per seed.

    :param curves: rows are timesteps, columns are seeds
    """
    steps = curves.index.to_numpy(float)
    area = scipy.integrate.trapezoid(curves.to_numpy(float), steps, axis=0) / (steps[-1] - steps[0])
    return pd.Series(area, index=curves.columns)


def final_episodes(episodes: pd.DataFrame, arm: str, env: str) -> pd.DataFrame:
    """Return the episodes of the evaluations that the final scores are made of.

    :param episodes: as from ``episode_table``
    :param arm: its label
    :param env: environment ID
    """
    of_arm = episodes[(episodes["algo"] == arm) & (episodes["env"] == env)]
    return of_arm[of_arm["timesteps"] > (1 - FINAL_SHARE) * of_arm["timesteps"].max()]


def _clearly_above(runs: "pd.Series[float]", sample: "pd.Series[float]", random: "pd.Series[float]") -> bool:
    """Say whether final scores are above random actions by more than two standard errors of the difference.

    A smaller way from random to best would blow up whatever is measured in it. The random policy's error is not enough:
    where it always has the lowest score there is, that error is 0, and a single lucky episode would be above it.

    :param runs: final score of each run
    :param sample: what gives their error: the runs, of a single one the rewards of its final episodes
    :param random: of the random policy's episodes
    """
    error = math.hypot(_error(sample), _error(random))
    return float(runs.mean() - random.mean()) > 2 * error


def _error(sample: "pd.Series[float]") -> float:
    return float(sample.sem()) if len(sample) > 1 else 0.0


def _above_random(
    episodes: pd.DataFrame, final: Mapping[str, pd.DataFrame], random: "Mapping[str, pd.Series[float]]"
) -> set[tuple[str, str]]:
    above = set()
    for arm, table in final.items():
        for env in table.columns.intersection(list(random)):
            runs = table[env].dropna()
            sample = runs if len(runs) > 1 else final_episodes(episodes, arm, env)["reward"]
            if _clearly_above(runs, sample, random[env]):
                above.add((arm, env))
    return above


def _references(
    final: Mapping[str, pd.DataFrame],
    envs: Sequence[str],
    random: "Mapping[str, pd.Series[float]]",
    above: Collection[tuple[str, str]],
) -> dict[str, Reference]:
    references = {}
    for env in envs:
        if any((arm, env) in above for arm in final):
            best = np.nanmax([table[env].mean() for table in final.values() if env in table])
            references[env] = Reference(float(random[env].mean()), float(best))
    return references


__all__ = ["COLUMNS", "FINAL_SHARE", "Matrix", "Reference", "Scores", "area_score"]
__all__ += ["episode_table", "final_episodes", "final_score", "make_scores"]

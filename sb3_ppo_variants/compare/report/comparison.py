"""A comparison as the report needs it: plan, results, and the scores made of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell
from sb3_ppo_variants.compare.plan import Plan
from sb3_ppo_variants.compare.report.scores import Matrix, Reference, Scores, episode_table, make_scores
from sb3_ppo_variants.compare.report.statistics import FEW_RUNS
from sb3_ppo_variants.figures.figure_style import Look, in_order, looks


@dataclass(frozen=True)
class Comparison:
    """What was planned and what came out.

    :param plan: all cells and their settings
    :param results: of the cells that are there
    :param crashed: logs of cells that crashed
    :param given: references of normalisation in place of the measured ones
    :param planned: cells that were planned, if not all of the plan: several folders may each have a part of it
    """

    plan: Plan
    results: dict[Cell, dict[str, Any]]
    crashed: Mapping[Cell, Path]
    given: Mapping[str, Reference]
    planned: Sequence[Cell] | None = None

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """Return the raw evaluations, a row per episode."""
        return episode_table(self.results)

    @cached_property
    def scores(self) -> Scores:
        """Return the scores, with the baseline first and the others in the order of all figures.

        In a sweep those of runs that have none are among them.
        """
        if not self.plan.swept:
            return self._measured
        return self._measured.with_scores_of(self.lost, self._in_order)

    @cached_property
    def _measured(self) -> Scores:
        return make_scores(self.episodes, self._in_order, list(self.plan.budgets), self.given)

    @property
    def _in_order(self) -> list[str]:
        return sorted(in_order(self.plan.arms), key=lambda arm: arm != self.plan.baseline)

    @cached_property
    def lost(self) -> dict[Cell, float]:
        """Return what a sweep counts for the runs that crashed or have rewards that are not finite: as random actions.

        Without them an algorithm would look the better the more of its bad settings crash.
        """
        tables = self._measured.final.items()
        scored = {(arm, env, seed) for arm, table in tables for env in table for seed in table[env].dropna().index}
        return {
            cell: low
            for cell in self.cells
            if cell not in scored
            and cell.arm != RANDOM_POLICY
            and (cell in self.results or cell in self.crashed)
            and (low := self.lowest_score(cell.env)) is not None
        }

    @property
    def baseline(self) -> str:
        """Return the baseline's label."""
        return self.plan.baseline

    @property
    def arms(self) -> list[str]:
        """Return the labels of the arms that have results, the baseline first."""
        return list(self.scores.final)

    @property
    def style(self) -> dict[str, Look]:
        """Return how each arm is drawn."""
        return looks({arm: self.plan.arms[arm] for arm in self.arms})

    @property
    def others(self) -> list[str]:
        """Return the arms without the baseline."""
        return [arm for arm in self.arms if arm != self.baseline]

    @property
    def envs(self) -> list[str]:
        """Return the environments that have results."""
        return [env for env in self.plan.budgets if any(env in self.scores.final[arm] for arm in self.arms)]

    @cached_property
    def cells(self) -> list[Cell]:
        """Return the cells that were planned."""
        return list(self.plan.cells() if self.planned is None else self.planned)

    @property
    def missing(self) -> list[Cell]:
        """Return the cells that were planned and have no result."""
        return [cell for cell in self.cells if cell not in self.results]

    @property
    def has_every_combination(self) -> bool:
        """Return whether every arm was planned on every environment with every seed."""
        return set(self.plan.cells()) <= set(self.cells)

    def fewest_planned(self) -> int:
        """Return the fewest runs that were planned of an arm on an environment."""
        return min(Counter((cell.arm, cell.env) for cell in self.cells if cell.arm != RANDOM_POLICY).values())

    @property
    def without_runs(self) -> list[tuple[str, str]]:
        """Return label and environment where something was planned and there is no usable run at all."""
        return [
            (arm, env)
            for arm, of_arm in self.plan.settings.items()
            for env in of_arm
            if arm not in self.arms or not len(self.raw("final", arm, env))
        ]

    def part(self) -> str | None:
        """Say of how many environments normalised scores are, if only some can be normalised; None for all."""
        common, every = len(self.scores.common_envs()), len(self.envs)
        return f"{common} of {every} environments" if 0 < common < every else None

    def together(self) -> str:
        """Say of which environments normalised scores are, in words."""
        return self.part() or "all environments"

    def matrices(self, kind: str) -> dict[str, Matrix]:
        """Return normalised scores of the environments that all arms share, by arm.

        :param kind: ``"final"`` or ``"area"``
        :return: shape (n_seeds, n_envs) each, with at least one seed; empty if there is no common environment
        """
        envs = self.scores.common_envs()
        every = {arm: self.scores.matrix(kind, arm, envs) for arm in self.arms} if envs else {}
        return {arm: matrix for arm, matrix in every.items() if len(matrix)}

    def raw(self, kind: str, arm: str, env: str) -> Matrix:
        """Return the scores of an arm on an environment, one per seed, as they were measured.

        :param kind: ``"final"`` or ``"area"``
        :param arm: its label
        :param env: environment ID
        :return: shape (n_seeds,); empty if there are none
        """
        table: pd.DataFrame = getattr(self.scores, kind)[arm]
        scores: Matrix = table[env].dropna().to_numpy(float) if env in table else np.empty(0)
        return scores

    def of(self, arm: str, env: str) -> list[dict[str, Any]]:
        """Return the results of an arm on an environment, one per seed.

        :param arm: its label
        :param env: environment ID
        """
        return [result for cell, result in self.results.items() if (cell.arm, cell.env) == (arm, env)]

    def updates(self, arm: str, env: str) -> set[int]:
        """Return the numbers of policy updates that the runs of an arm on an environment had.

        :param arm: its label
        :param env: environment ID
        """
        return {len(result["trace"]["timesteps"]) for result in self.of(arm, env) if result["trace"]}

    def random_score(self, env: str) -> float | None:
        """Return the mean reward of the random policy on an environment; None if it has no result that is finite."""
        result = self.results.get(Cell(RANDOM_POLICY, env, 0))
        rewards = np.array(result["evaluations"][0]["rewards"] if result else [], dtype=float)
        return float(rewards.mean()) if len(rewards) and np.isfinite(rewards).all() else None

    def lowest_score(self, env: str) -> float | None:
        """Return the score that counts as 0: the one given, else the random policy's; None if that was not measured."""
        return self.given[env].low if env in self.given else self.random_score(env)

    def zero_in_words(self) -> str:
        """Say which score of an environment counts as 0, without its number."""
        given = [env for env in self.envs if env in self.given]
        if not given:
            return "the random policy's score"
        if len(given) == len(self.envs):
            return "the score given as 0"
        return f"the score that counts as 0 (as given for {', '.join(given)}; elsewhere the random policy's)"

    def beats_zero(self, arm: str, env: str) -> bool:
        """Say whether an arm's final scores are above the one given as 0, or else clearly above the random policy's.

        :param arm: its label, of one with runs there
        :param env: environment ID
        """
        if env in self.given:
            return float(self.raw("final", arm, env).mean()) > self.given[env].low
        return (arm, env) in self.scores.above_random

    def fewest_runs(self) -> int:
        """Return the fewest runs of an arm on an environment, or on all together, of those that have any."""
        counts = [len(self.raw("final", arm, env)) for arm in self.arms for env in self.envs]
        counts += map(len, self.matrices("final").values())
        return min(count for count in counts if count)

    @property
    def few_runs(self) -> bool:
        """Return whether there are too few runs for a conclusion."""
        return self.fewest_runs() < FEW_RUNS


__all__ = ["Comparison"]

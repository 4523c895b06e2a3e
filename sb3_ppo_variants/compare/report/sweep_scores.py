"""What a sweep shows: scores at every point, and how much an algorithm depends on the point.

Hyperparameter sensitivity is that of Adkins, Bowling and White, "A Method for Evaluating Hyperparameter Sensitivity in
Reinforcement Learning" (NeurIPS 2024, arXiv:2412.07165). It is a difference of two means over environments: of the best
score that an algorithm reaches on each, and of the score of the one setting that is best over all of them together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.scores import Matrix
from sb3_ppo_variants.compare.report.statistics import Estimate, estimates
from sb3_ppo_variants.compare.sweep import same, setting_name

FAILED_BELOW = 0.5
"""A setting fails on an environment where it scores less than this share of the best setting of the baseline."""


@dataclass(frozen=True)
class Sensitivity:
    """How much an algorithm depends on its setting; normalised scores, 0 = random policy, unless given.

    :param tuned_per_env: mean over environments of the best score on each
    :param best_setting: mean over environments of the best single setting
    :param sensitivity: the difference of the two
    :param mean: over all settings and environments
    :param failed: share of settings and environments below half of the baseline's best setting there; None where that
        is nowhere above 0
    """

    tuned_per_env: Estimate
    best_setting: Estimate
    sensitivity: Estimate
    mean: Estimate
    failed: Estimate | None


@dataclass(frozen=True)
class SweepScores:
    """A comparison seen as a sweep.

    :param comparison: one whose plan has points
    """

    comparison: Comparison

    @cached_property
    def labels(self) -> dict[str, list[str]]:
        """Return the labels of each arm's points, the baseline first; of arms that have results."""
        swept = self.comparison.plan.swept
        found: dict[str, list[str]] = {self.baseline: []}
        for label, point in swept.items():
            if label in self.comparison.arms:
                found.setdefault(point.arm, []).append(label)
        return {arm: labels for arm, labels in found.items() if labels}

    @property
    def baseline(self) -> str:
        """Return the label of the baseline's arm, as it was given."""
        return self.comparison.plan.swept[self.comparison.baseline].arm

    @property
    def algorithms(self) -> dict[str, str]:
        """Return each arm's name in rl-zoo3."""
        return {arm: self.comparison.plan.arms[labels[0]] for arm, labels in self.labels.items()}

    @cached_property
    def axes(self) -> dict[str, list[Any]]:
        """Return the values of each swept hyperparameter, numbers sorted; the one with the most values first."""
        axes: dict[str, list[Any]] = {}
        for point in self.comparison.plan.swept.values():
            for key, value in point.values.items():
                values = axes.setdefault(key, [])
                if not any(same(value, known) for known in values):
                    values.append(value)
        for values in axes.values():
            if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
                values.sort()
        return dict(sorted(axes.items(), key=lambda item: -len(item[1])))

    def label_at(self, arm: str, values: Mapping[str, Any]) -> str | None:
        """Return the label of an arm at a point; of what its algorithm does not have, the value makes no difference.

        :param arm: as it was given
        :param values: by hyperparameter
        """
        for label in self.labels[arm]:
            own = self.comparison.plan.swept[label].values
            if all(same(value, values[key]) for key, value in own.items()):
                return label
        return None

    def cube(self, kind: str, arm: str) -> Matrix:
        """Return normalised scores of the seeds that have all points and environments.

        :param kind: ``"final"`` or ``"area"``
        :param arm: as it was given
        :return: shape (n_seeds, n_points, n_envs)
        """
        envs = self.comparison.scores.common_envs()
        scores = self.comparison.scores
        tables = [getattr(scores, kind)[label].reindex(columns=envs).dropna() for label in self.labels[arm]]
        seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
        normal = [
            [scores.references[env].normalise(table.loc[seeds, env].to_numpy(float)) for env in envs]
            for table in tables
        ]
        by_point = np.array(normal, dtype=float).reshape(len(tables), len(envs), len(seeds))
        cube: Matrix = by_point.transpose(2, 0, 1)
        return cube

    def best_setting(self, kind: str, arm: str) -> str:
        """Name the setting with the best mean score over environments.

        :param kind: ``"final"`` or ``"area"``
        :param arm: as it was given
        """
        best = int(self.cube(kind, arm).mean(axis=(0, 2)).argmax())
        return setting_name(self.comparison.plan.swept[self.labels[arm][best]].values) or "–"

    def sensitivities(self, kind: str) -> dict[str, Sensitivity]:
        """Estimate how much each arm depends on its setting.

        :param kind: ``"final"`` or ``"area"``
        :return: by arm, without those of which no seed is complete
        """
        cubes = {arm: cube for arm in self.labels if (cube := self.cube(kind, arm)).size}
        failed = _failures(cubes, self.baseline)
        found = {}
        for arm, cube in cubes.items():
            per_env, single, sensitivity, mean = estimates(cube, _parts)
            found[arm] = Sensitivity(per_env, single, sensitivity, mean, failed.get(arm))
        return found

    def not_judged(self, kind: str) -> list[str]:
        """Return the environments on which the baseline's best setting is not above 0, so that none can fail.

        :param kind: ``"final"`` or ``"area"``
        """
        cube = self.cube(kind, self.baseline)
        envs = self.comparison.scores.common_envs()
        return [env for env, judged in zip(envs, _judged(cube)) if not judged] if cube.size else []


def _failures(cubes: Mapping[str, Matrix], baseline: str) -> dict[str, Estimate]:
    if baseline not in cubes or not (judged := _judged(cubes[baseline])).any():
        return {}
    cubes = {arm: cube[:, :, judged] for arm, cube in cubes.items()}
    base = cubes[baseline]
    failed = {arm: estimates((cube, base), _failed) for arm, cube in cubes.items() if arm != baseline}
    failed[baseline] = estimates(base, lambda runs: _failed(runs, runs))  # with the same runs on both sides
    return {arm: found for arm, (found,) in failed.items()}


def _judged(base: Matrix) -> Matrix:
    above: Matrix = base.mean(axis=0).max(axis=0) > 0
    return above


def _parts(cube: Matrix) -> Matrix:
    means = cube.mean(axis=0)
    per_env, single = means.max(axis=0).mean(), means.mean(axis=1).max()
    return np.array([per_env, single, per_env - single, means.mean()])


def _failed(cube: Matrix, base: Matrix) -> Matrix:
    least = FAILED_BELOW * base.mean(axis=0).max(axis=0)
    return np.array([(cube.mean(axis=0) < least).mean()])


__all__ = ["FAILED_BELOW", "Sensitivity", "SweepScores"]

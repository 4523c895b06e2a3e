"""All cells of a comparison, and whether the results of an earlier one fit to it."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell, CellSettings, CellTask
from sb3_ppo_variants.compare.settings import ResolvedSettings
from sb3_ppo_variants.compare.sweep import SweptArm

RANDOM_EPISODES = 100
"""Episodes of the random policy in each environment."""

ENVIRONMENT_KEYS = ("env_wrapper", "vec_env_wrapper", "env_kwargs", "frame_stack")
"""Hyperparameters in rl-zoo3's sense that change the environment rather than the algorithm."""


@dataclass(frozen=True)
class Budget:
    """Steps on one environment, the same for all arms.

    :param n_timesteps: of training
    :param eval_freq: between evaluations
    """

    n_timesteps: int
    eval_freq: int


@dataclass(frozen=True)
class Plan:
    """A comparison: every arm on every environment with every seed.

    :param arms: algorithm of each label
    :param settings: hyperparameters by label and environment
    :param budgets: by environment
    :param seeds: of the training runs
    :param eval_episodes: episodes of each evaluation
    :param device: PyTorch device
    :param baseline: label that the others are compared with
    :param preset: name of the preset it was made from, or ""
    :param commands: command lines that led to it, the oldest first
    :param swept: in a sweep, what each label stands for; else empty
    """

    arms: dict[str, str]
    settings: dict[str, dict[str, ResolvedSettings]]
    budgets: dict[str, Budget]
    seeds: list[int]
    eval_episodes: int
    device: str
    baseline: str
    preset: str = ""
    commands: tuple[str, ...] = ()
    swept: dict[str, SweptArm] = field(default_factory=dict)

    def cells(self) -> Iterator[Cell]:
        """Give the random policy's cells, then all others, one seed after the other."""
        for env in self.budgets:
            yield Cell(RANDOM_POLICY, env, 0)
        for seed in self.seeds:
            for env in self.budgets:
                for arm in self.arms:
                    yield Cell(arm, env, seed)

    def task(self, cell: Cell) -> CellTask:
        """Give a cell with its settings.

        :param cell: one of this plan
        """
        if cell.arm == RANDOM_POLICY:
            every = self.settings[self.baseline][cell.env].hyperparameters
            kept = {key: every[key] for key in ENVIRONMENT_KEYS if key in every}
            hyperparameters = {"policy": "MlpPolicy", "n_timesteps": 1, **kept}
            return CellTask(cell, CellSettings(RANDOM_POLICY, hyperparameters, 1, 1, RANDOM_EPISODES, self.device))
        budget = self.budgets[cell.env]
        settings = CellSettings(
            algo=self.arms[cell.arm],
            hyperparameters=self.settings[cell.arm][cell.env].hyperparameters,
            n_timesteps=budget.n_timesteps,
            eval_freq=budget.eval_freq,
            eval_episodes=self.eval_episodes,
            device=self.device,
        )
        return CellTask(cell, settings)

    def differences(self, other: "Plan") -> list[str]:
        """List what makes the results of another plan differ from this one's: settings of what both have.

        :param other: such as the plan that a folder was begun with
        :return: one line each, with the other's value first
        """
        theirs, ours = other._facts(), self._facts()
        # A hyperparameter that only one of them gives is a difference; an arm or environment that only one has is not.
        shared = {name for name in theirs if name in ours}
        return [
            f"{name}, {key}: {theirs[name].get(key, 'not given')!r} there, {ours[name].get(key, 'not given')!r} here"
            for name in theirs
            if name in shared
            for key in {**theirs[name], **ours[name]}
            if theirs[name].get(key, ...) != ours[name].get(key, ...)
        ]

    def restricted_to(self, cells: Collection[Cell]) -> "Plan":
        """Leave out what none of some cells is of: nothing was made with its settings.

        :param cells: of this plan
        """
        pairs = {(cell.arm, cell.env) for cell in cells}
        settings = {
            arm: kept
            for arm, of in self.settings.items()
            if (kept := {e: s for e, s in of.items() if (arm, e) in pairs})
        }
        return replace(
            self,
            arms={arm: algo for arm, algo in self.arms.items() if arm in settings},
            settings=settings,
            budgets={env: b for env, b in self.budgets.items() if any(env in of for of in settings.values())},
            seeds=[seed for seed in self.seeds if any(c.seed == seed and c.arm in settings for c in cells)],
        )

    def leaves_out(self, earlier: "Plan") -> list[str]:
        """List arms, environments and seeds of an earlier plan that are not in this one.

        :param earlier: the plan that a folder was begun with
        """
        seeds = [f"seed {seed}" for seed in earlier.seeds if seed not in self.seeds]
        names = [name for name in (*earlier.arms, *earlier.budgets) if name not in (*self.arms, *self.budgets)]
        return names + seeds

    def merged_with(self, other: "Plan") -> "Plan":
        """Join the arms, environments, seeds and commands of two plans without differences.

        :param other: the plan of another folder
        """
        labels = [*self.settings, *(label for label in other.settings if label not in self.settings)]
        settings = {label: {**self.settings.get(label, {}), **other.settings.get(label, {})} for label in labels}
        return replace(
            self,
            arms={**self.arms, **other.arms},
            settings=settings,
            budgets={**self.budgets, **other.budgets},
            seeds=sorted({*self.seeds, *other.seeds}),
            preset=self.preset if self.preset == other.preset else "",
            swept={**self.swept, **other.swept},
            commands=(*self.commands, *(command for command in other.commands if command not in self.commands)),
        )

    def _facts(self) -> dict[str, dict[str, Any]]:
        facts: dict[str, dict[str, Any]] = {
            "all cells": {"eval_episodes": self.eval_episodes, "device": self.device},
            **{env: asdict(budget) for env, budget in self.budgets.items()},
            **{label: {"algorithm": algo} for label, algo in self.arms.items()},
        }
        for label, of_arm in self.settings.items():
            for env, resolved in of_arm.items():
                facts[f"{label} on {env}"] = resolved.hyperparameters
        return facts

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """Restore what ``to_json`` gave.

        :param data: read from a JSON file
        """
        settings = {
            label: {env: ResolvedSettings(**values) for env, values in of_arm.items()}
            for label, of_arm in data["settings"].items()
        }
        made = {
            "settings": settings,
            "budgets": {env: Budget(**values) for env, values in data["budgets"].items()},
            "commands": tuple(data["commands"]),
            "swept": {label: SweptArm(**values) for label, values in data.get("swept", {}).items()},
        }
        return cls(**{**data, **made})


__all__ = ["ENVIRONMENT_KEYS", "RANDOM_EPISODES", "Budget", "Plan"]

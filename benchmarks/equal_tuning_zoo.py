"""The package's zoo command, in whose search spaces a minibatch has 32 samples and more: equal_tuning.py runs it.

    python benchmarks/equal_tuning_zoo.py train --algo ppo -optimize ...

rl-zoo3's space for PPO begins at 4, where its comment says 32. A trial with minibatches of 4 takes up to 200,000
optimiser steps and 14 minutes for the 40,000 environment steps in which others take 5 seconds: budgets of equally many
environment steps say nothing then.
"""

from typing import Any

import optuna
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER, sample_ppo_params

from sb3_ppo_variants.cli import main

SMALLEST_POWER = 5  # 2 ** 5 = 32


class LargeBatches:
    """A trial that suggests no minibatch below 32 samples."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def suggest_int(self, name: str, low: int, high: int, **kwargs: Any) -> int:
        low = SMALLEST_POWER if name == "batch_size_pow" else low
        return int(self._trial.suggest_int(name, low, high, **kwargs))


def sample(trial: optuna.Trial, *args: Any) -> dict[str, Any]:
    """Suggest what the zoo suggests for PPO, but for the smallest minibatches; our classes' spaces build on it."""
    return sample_ppo_params(LargeBatches(trial), *args)  # type: ignore[arg-type]


if __name__ == "__main__":
    HYPERPARAMS_SAMPLER["ppo"] = sample
    main()

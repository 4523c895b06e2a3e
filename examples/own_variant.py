"""Add a variant of one's own: PPO with rollback, on its own and together with the adaptive clip range.

``python examples/own_variant.py`` trains both on CartPole-v1. docs/writing_a_variant.md explains the pieces.
"""

import argparse
from typing import Any

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ppo_variants.extend import AdaptiveClipMixin, Number, PolicyUpdateMixin, check_positive


class RollbackMixin(PolicyUpdateMixin):
    """Outside the clip range the objective falls with slope ``rollback`` (PPO-RB, arXiv:1903.07940, eq. 11)."""

    def __init__(self, *args: Any, rollback: float = 0.3, **kwargs: Any) -> None:
        self.rollback = rollback
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        check_positive(self, "rollback", "use PPOClip for a flat objective outside the range")

    def update_coefficients(self) -> dict[str, Number]:
        return {**super().update_coefficients(), "rollback": self.scheduled("rollback", self.rollback)}

    def surrogate(
        self, ratio: th.Tensor, advantages: th.Tensor, kl: th.Tensor | None, coefficients: dict[str, Number]
    ) -> th.Tensor:
        clipped = th.clamp(ratio, 1 - coefficients["clip_range"], 1 + coefficients["clip_range_upper"])
        rolled_back = clipped - coefficients["rollback"] * (ratio - clipped)
        return th.min(ratio * advantages, rolled_back * advantages)


class PPORollback(RollbackMixin, PPO):
    """The variant on its host: this line is all that a host needs."""


class PPOAdaptiveRollback(RollbackMixin, AdaptiveClipMixin, PPO):
    """Mixins combine: rollback outside a clip range that follows the measured KL."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=20_000, help="environment steps (default: %(default)s)")
    timesteps = parser.parse_args().timesteps
    for algorithm in (PPORollback, PPOAdaptiveRollback):
        env = make_vec_env("CartPole-v1", n_envs=4, seed=1)
        model = algorithm("MlpPolicy", env, n_steps=256, rollback=lambda progress: 0.3 * progress, seed=1)
        model.learn(timesteps)
        mean, std = evaluate_policy(model, make_vec_env("CartPole-v1", seed=2), n_eval_episodes=20)
        kl = model.last_update.kl_divergence
        print(f"{algorithm.__name__}: return {mean:.1f} +/- {std:.1f}, KL of the last update {kl:.4f}")


if __name__ == "__main__":
    main()

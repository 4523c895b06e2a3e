"""PPO-RB: PPO with rollback, from the first version of "Truly Proximal Policy Optimization" (Wang et al. 2019).

It stands beside own_variant.py, which explains it line by line, for the three hosts and for comparisons.
"""

from typing import Any

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from sb3_ppo_variants.extend import Number, PolicyUpdateMixin, is_number, require


class RollbackMixin(PolicyUpdateMixin):
    """Outside the clip range the objective falls instead of being flat (arXiv:1903.07940v1, eq. 11).

    ``F = -a r + (1 + a)(1 +- eps)`` outside ``[1 - eps, 1 + eps]``, ``r`` inside; the objective is ``min(r A, F A)``.

    :param rollback: slope a >= 0; 0 is PPO's clip; the authors' code has 0.3 on MuJoCo and 0.01 on Atari
    """

    def __init__(self, *args: Any, rollback: float = 0.3, **kwargs: Any) -> None:
        self.rollback = rollback
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        allowed = is_number(self.rollback) and self.rollback >= 0
        require(allowed, "`rollback` must be a number >= 0", self.rollback, "pass 0 for PPO's clip")

    def update_coefficients(self) -> dict[str, Number]:
        return {**super().update_coefficients(), "rollback": float(self.rollback)}

    def surrogate(
        self, ratio: th.Tensor, advantages: th.Tensor, kl: th.Tensor | None, coefficients: dict[str, Number]
    ) -> th.Tensor:
        clipped = th.clamp(ratio, 1 - coefficients["clip_range"], 1 + coefficients["clip_range_upper"])
        rolled_back = clipped - coefficients["rollback"] * (ratio - clipped)
        return th.min(ratio * advantages, rolled_back * advantages)


class PPORollback(RollbackMixin, PPO):
    """PPO-RB on SB3's PPO."""


class RecurrentPPORollback(RollbackMixin, RecurrentPPO):
    """PPO-RB for LSTM policies."""


class MaskablePPORollback(RollbackMixin, MaskablePPO):
    """PPO-RB for invalid actions."""

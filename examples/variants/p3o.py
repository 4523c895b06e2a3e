"""P3O: soft clipping by a sigmoid, with a KL penalty (Chen et al., AAAI 2023)."""

from typing import Any, ClassVar

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from sb3_ppo_variants.extend import Number, Penalty, PolicyUpdateMixin, is_number, require


class P3OMixin(PolicyUpdateMixin):
    """``4 / tau sigmoid(tau (r - 1)) A - kl_coef KL(old || new)`` (arXiv:2205.10047); the first term is its Scopic.

    :param temperature: tau > 0; the objective's slope is A at ``r = 1`` and fades on both sides, faster with larger tau
    :param kl_coef: weight of the KL >= 0; the authors have 0.1 on MuJoCo and 1 on Atari; 0 leaves Scopic
    """

    host_defaults: ClassVar[dict[str, Any]] = {"clip_range": None}
    kl_in_loss = True

    def __init__(self, *args: Any, temperature: float = 4.0, kl_coef: float = 0.1, **kwargs: Any) -> None:
        self.temperature = temperature
        self.kl_coef = kl_coef
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        tau, allowed = self.temperature, is_number(self.kl_coef) and self.kl_coef >= 0
        require(is_number(tau) and tau > 0, "`temperature` must be a number > 0", tau, "4 is the authors'")
        require(allowed, "`kl_coef` must be a number >= 0", self.kl_coef, "pass 0 for Scopic")

    def update_coefficients(self) -> dict[str, Number]:
        own = {"temperature": float(self.temperature), "kl_coef": float(self.kl_coef)}
        return {**super().update_coefficients(), **own}

    def surrogate(
        self, ratio: th.Tensor, advantages: th.Tensor, kl: th.Tensor | None, coefficients: dict[str, Number]
    ) -> th.Tensor:
        tau = coefficients["temperature"]
        return 4 / tau * th.sigmoid(tau * (ratio - 1)) * advantages

    def kl_penalty(self, kl: th.Tensor, coefficients: dict[str, Number]) -> Penalty:
        return Penalty(coefficients["kl_coef"] * kl, coefficients["kl_coef"])


class P3O(P3OMixin, PPO):
    """P3O on SB3's PPO."""


class RecurrentP3O(P3OMixin, RecurrentPPO):
    """P3O for LSTM policies."""


class MaskableP3O(P3OMixin, MaskablePPO):
    """P3O for invalid actions."""

"""SPO: Simple Policy Optimization (Xie et al., ICML 2025)."""

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from sb3_ppo_variants.extend import Number, PolicyUpdateMixin


class SPOMixin(PolicyUpdateMixin):
    """A parabola in the ratio with its top at the edge of the range: ``r A - |A| / (2 eps) (r - 1)^2``.

    arXiv:2401.16025v9, eq. 16. Beyond the edge the gradient leads back instead of vanishing. ``eps`` is ``clip_range``;
    None leaves ``r A``. ``train/clip_fraction`` still counts the ratios outside ``[1 - eps, 1 + eps]``.
    """

    def update_coefficients(self) -> dict[str, Number]:
        coefficients = super().update_coefficients()
        # A schedule may end at 0 and, in a last rollout beyond the total steps, below it: eps is a divisor here
        return {**coefficients, "clip_range": max(float(coefficients["clip_range"]), 1e-3)}

    def surrogate(
        self, ratio: th.Tensor, advantages: th.Tensor, kl: th.Tensor | None, coefficients: dict[str, Number]
    ) -> th.Tensor:
        return advantages * ratio - advantages.abs() * (ratio - 1) ** 2 / (2 * coefficients["clip_range"])


class SPO(SPOMixin, PPO):
    """SPO on SB3's PPO."""


class RecurrentSPO(SPOMixin, RecurrentPPO):
    """SPO for LSTM policies."""


class MaskableSPO(SPOMixin, MaskablePPO):
    """SPO for invalid actions."""

"""KLip-PPO: the clip written as a KL penalty of each sample (Colletti and Holzinger 2026)."""

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from sb3_ppo_variants.extend import Number, PolicyUpdateMixin


class KLipMixin(PolicyUpdateMixin):
    """``r A + beta_t log pi(a|s)`` with ``beta_t = -r A``, held fixed, where the clip bites, else 0.

    arXiv:2606.23932, theorem 1, eq. 4: its gradient is the clipped objective's, so that PPO's clip is a penalty on the
    sampled KL(old || new), whose estimate for one sample is ``-log r``, with a coefficient of its own for each sample.
    """

    def surrogate(
        self, ratio: th.Tensor, advantages: th.Tensor, kl: th.Tensor | None, coefficients: dict[str, Number]
    ) -> th.Tensor:
        above = (advantages > 0) & (ratio > 1 + coefficients["clip_range_upper"])
        below = (advantages < 0) & (ratio < 1 - coefficients["clip_range"])
        objective = ratio * advantages
        beta = th.where(above | below, -objective.detach(), th.zeros_like(objective))
        # The paper adds beta log pi(a|s); log r has the same gradient, and is 0 where the policy has not moved
        return objective + beta * th.log(ratio.clamp(min=th.finfo(ratio.dtype).tiny))


class KLipPPO(KLipMixin, PPO):
    """KLip-PPO on SB3's PPO."""


class RecurrentKLipPPO(KLipMixin, RecurrentPPO):
    """KLip-PPO for LSTM policies."""


class MaskableKLipPPO(KLipMixin, MaskablePPO):
    """KLip-PPO for invalid actions."""

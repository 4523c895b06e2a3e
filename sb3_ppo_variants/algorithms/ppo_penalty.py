"""PPO-Penalty: a KL penalty in place of PPO's clip, with a coefficient that adapts to the measured KL."""

import math
from typing import Any, ClassVar

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants.algorithms.adaptation import AdaptiveUpdateMixin
from sb3_ppo_variants.algorithms.own_terms import Penalty, takes_arrays
from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.update.controllers import Adjustment, BandController, within
from sb3_ppo_variants.update.kl_divergence import KLDirection
from sb3_ppo_variants.update.losses import Number


class KLPenaltyMixin(AdaptiveUpdateMixin):
    """Surrogate ``E[r A] - beta KL(new || old)`` with adaptive beta; PPO paper (arXiv:1707.06347), section 4.

    A KL d above ``kl_tolerance * target_kl`` multiplies beta by ``adaptation_factor``, one below
    ``target_kl / kl_tolerance`` divides it. The live value is ``model.beta``. The paper has KL(old || new), which is
    ``kl_direction="forward"``: it is large where the new policy is narrower than the old one, and hinders the noise of
    continuous actions from shrinking.

    The penalty holds the mean over states. A single ratio grows exponentially where its state's KL grows quadratically:
    over a million steps some reached hundreds, so that few samples decide the gradient. ``ratio_cap`` limits that.

    :param clip_range: None: the penalty alone; a float > 0 or a schedule adds the clip
    :param initial_beta: first beta, > 0 (0 allowed with ``adaptive_beta=False``); larger keeps the policy closer. A
        loaded model goes on with its own
    :param adaptive_beta: False keeps beta as it is
    :param adaptation_factor: size of one step of beta, > 1; the KL answers about quadratically, so that the paper's 2
        jumps over the band
    :param beta_bounds: smallest and largest beta
    :param kl_direction: ``"reverse"`` for KL(new || old), ``"forward"`` for KL(old || new), in penalty and measurement
    :param ratio_cap: c > 1: a ratio r beyond it counts as ``c (1 + ln(r / c))``, so that no sample's gradient has more
        than c times its weight at r = 1 (CISPO, arXiv:2506.13585); None for no cap, as in the PPO paper
    :param hinge_coef: adds ``hinge_coef * max(0, KL - 2 target_kl)^2`` to the loss (modular_rl, ppo.py); 0 for none
    """

    host_defaults: ClassVar[dict[str, Any]] = {"target_kl": 0.02, "clip_range": None}
    live_state = ("beta",)
    kl_in_loss = True

    def __init__(
        self,
        *args: Any,
        initial_beta: float = 1.0,
        adaptive_beta: bool = True,
        adaptation_factor: float = 1.3,
        beta_bounds: tuple[float, float] = (1e-3, 1e3),
        kl_direction: KLDirection = "reverse",
        ratio_cap: float | None = None,
        hinge_coef: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.initial_beta = initial_beta
        self.adaptive_beta = adaptive_beta
        self.adaptation_factor = adaptation_factor
        self.beta_bounds = beta_bounds
        self.kl_direction = kl_direction
        self.ratio_cap = ratio_cap
        self.hinge_coef = hinge_coef
        self.beta = float(initial_beta) if checks.is_number(initial_beta) else math.nan
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        checks.check_bounds(self, "beta_bounds")
        for name, way_out in (("initial_beta", "1.0 is the default"), ("hinge_coef", "pass 0 for no hinge")):
            value = getattr(self, name)
            ok = checks.is_number(value) and 0 <= value < math.inf
            checks.require(ok, f"`{name}` must be a finite number >= 0", value, way_out)
        if self.ratio_cap is not None:
            checks.check_above_one("ratio_cap", self.ratio_cap, "pass None for no cap")
        if self.adaptive_beta:
            way_out = "widen the bounds, or pass adaptive_beta=False for a fixed beta"
            checks.check_within(self, "initial_beta", "beta_bounds", way_out)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        prepared = super()._setup_learn(*args, **kwargs)
        if self.adaptive_beta:
            self.beta = within(self.beta, self.beta_bounds)  # which may have been loaded with others
        return prepared

    def update_coefficients(self) -> dict[str, Number]:
        cap = {} if self.ratio_cap is None else {"ratio_cap": float(self.ratio_cap)}
        return {**super().update_coefficients(), "beta": self.beta, **cap}

    @takes_arrays
    def kl_penalty(self, kl: th.Tensor, coefficients: dict[str, Number]) -> Penalty:
        beta = coefficients["beta"]
        if self.hinge_coef == 0:
            return Penalty(beta * kl, beta)
        excess = (kl - 2 * coefficients["target_kl"]).clip(min=0)
        return Penalty(beta * kl + self.hinge_coef * excess**2, beta + 2 * self.hinge_coef * excess)

    def kl_penalty_is_linear(self) -> bool:
        return self.hinge_coef == 0

    def adapts(self) -> bool:
        return self.adaptive_beta and super().adapts()

    def has_target(self) -> bool:
        return self.adaptive_beta or self.hinge_coef > 0

    def adjust(self, controller: BandController, kl: float, target: float) -> Adjustment:
        adjustment = controller(self.beta, kl, target, self.beta_bounds, tightens="up")
        self.beta = adjustment.value
        return adjustment

    def limits_kl(self, kl: float) -> bool:
        # To second order in the step, the pulls of penalty and surrogate are as 2 beta KL to the gain of the surrogate:
        # below a tenth it is not the penalty that holds the policy back. A penalty below 1e-6 is rounding.
        penalty, gain = self.beta * kl, self.epoch_mean("policy_gain")
        return penalty > 1e-6 and gain > 0 and 2 * penalty >= 0.1 * gain

    def record_state(self) -> None:
        super().record_state()
        self.logger.record("train/beta", self.beta)


class PPOPenalty(KLPenaltyMixin, PPO):
    """PPO with an adaptive KL penalty instead of the clipped surrogate.

    By default no update moves the policy further than ``target_kl``.
    """


class RecurrentPPOPenalty(KLPenaltyMixin, RecurrentPPO):
    """:class:`PPOPenalty` for LSTM policies, on sb3-contrib's RecurrentPPO."""


class MaskablePPOPenalty(KLPenaltyMixin, MaskablePPO):
    """:class:`PPOPenalty` for environments with invalid actions, on sb3-contrib's MaskablePPO."""


__all__ = ["KLPenaltyMixin", "MaskablePPOPenalty", "PPOPenalty", "RecurrentPPOPenalty"]

"""PPO with a KL-adaptive learning rate: the step size follows the measured KL."""

from typing import Any, ClassVar, Literal

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants.algorithms.adaptation import AdaptiveUpdateMixin
from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.update.controllers import Adjustment, BandController, within


class AdaptiveLearningRateMixin(AdaptiveUpdateMixin):
    """Clipped surrogate with the learning rate ``learning_rate(progress) * lr_scale``; the KL moves ``lr_scale``.

    A KL d above ``kl_tolerance * target_kl`` divides ``lr_scale`` by ``adaptation_factor``, one below
    ``target_kl / kl_tolerance`` multiplies it. The live value is ``model.lr_scale``, starting at 1. It is the rule that
    rsl_rl (``schedule="adaptive"``), rl_games and skrl (``KLAdaptiveLR``) share; its first place is Rudin et al.
    (arXiv:2109.11978).

    :param learning_rate: where the learning rate starts, within ``learning_rate_bounds``, or schedule; the live one is
        ``learning_rate * lr_scale``
    :param adaptation_factor: size of one step of the learning rate, > 1
    :param learning_rate_bounds: smallest and largest learning rate in use
    :param adapt_after: ``"minibatch"``: a step after every minibatch, up to 16 times per epoch, from the KL of the
        minibatches since the last one, or after an update that is a single step; ``"epoch"`` and ``"update"`` as in
        the other adaptive classes
    """

    host_defaults: ClassVar[dict[str, Any]] = {"target_kl": 0.01}
    live_state = ("lr_scale",)
    adaptation_moments = ("minibatch", "epoch", "update")

    def __init__(
        self,
        *args: Any,
        kl_tolerance: float = 2.0,
        adaptation_factor: float = 1.5,
        learning_rate_bounds: tuple[float, float] = (1e-5, 1e-2),
        adapt_after: Literal["minibatch", "epoch", "update"] = "minibatch",
        max_kl: float | Literal["target"] | None = None,
        **kwargs: Any,
    ) -> None:
        self.adaptation_factor = adaptation_factor
        self.learning_rate_bounds = learning_rate_bounds
        self.lr_scale = 1.0
        kwargs |= {"kl_tolerance": kl_tolerance, "adapt_after": adapt_after, "max_kl": max_kl}
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        checks.check_bounds(self, "learning_rate_bounds")
        if self.learning_rate != 0:  # with 0 rl-zoo3's enjoy loads what shall not learn any more
            checks.check_within(self, "learning_rate", "learning_rate_bounds")

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        checks.check_positive(self, "learning_rate", "3e-4 is usual")
        return super()._setup_learn(*args, **kwargs)

    def adjust(self, controller: BandController, kl: float, target: float) -> Adjustment:
        base = self.lr_schedule(self._current_progress_remaining)
        adjustment = controller.rescale(self.lr_scale, base, kl, target, self.learning_rate_bounds, tightens="down")
        self.lr_scale = adjustment.value
        return adjustment

    def after_check(self, kl: float, progress: float) -> None:
        super().after_check(kl, progress)
        self._update_learning_rate(self.policy.optimizer)

    def after_epoch(self, kl: float, progress: float) -> None:
        super().after_epoch(kl, progress)
        self._update_learning_rate(self.policy.optimizer)

    def after_update(self, kl: float, progress: float) -> None:
        super().after_update(kl, progress)
        self._update_learning_rate(self.policy.optimizer)  # which logs it

    def record_state(self) -> None:
        super().record_state()
        self.logger.record("train/lr_scale", self.lr_scale)

    def _update_learning_rate(self, optimizers: list[th.optim.Optimizer] | th.optim.Optimizer) -> None:
        super()._update_learning_rate(optimizers)
        rate = within(self.lr_schedule(self._current_progress_remaining) * self.lr_scale, self.learning_rate_bounds)
        self._set_learning_rate(optimizers, rate)


class PPOAdaptiveLR(AdaptiveLearningRateMixin, PPO):
    """PPO whose learning rate adapts to the measured KL divergence."""


class RecurrentPPOAdaptiveLR(AdaptiveLearningRateMixin, RecurrentPPO):
    """:class:`PPOAdaptiveLR` for LSTM policies, on sb3-contrib's RecurrentPPO."""


class MaskablePPOAdaptiveLR(AdaptiveLearningRateMixin, MaskablePPO):
    """:class:`PPOAdaptiveLR` for environments with invalid actions, on sb3-contrib's MaskablePPO."""


__all__ = ["AdaptiveLearningRateMixin", "MaskablePPOAdaptiveLR", "PPOAdaptiveLR", "RecurrentPPOAdaptiveLR"]

"""What the adaptive variants share: when the KL is measured, what it is compared with, what is logged."""

import math
import warnings
from typing import Any, ClassVar, Literal

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import update_learning_rate

from sb3_ppo_variants.algorithms.policy_update import PolicyUpdateMixin
from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.update.controllers import Adjustment, BandController
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.policy_evaluation import package_of
from sb3_ppo_variants.update.rules import UpdateRules


class AdaptiveUpdateMixin(PolicyUpdateMixin):
    """A coefficient that is moved by the exact KL divergence of the update.

    The KL that a given coefficient leads to varies several-fold from one update to the next. The paper's rule, one step
    per update, cannot follow that. The defaults therefore also act inside the update: a small step after every epoch,
    and a projection where the target is passed. docs/trust_region.md has the figures behind them. The paper's plain
    rule is ``adapt_after="update", max_kl=None, adaptation_factor=2.0``, in ``PPOPenalty`` also
    ``kl_direction="forward"``.

    :param target_kl: set point of the exact KL of an update, nats per state: number > 0 or schedule; larger lets the
        policy move further
    :param kl_tolerance: half-width of the band around ``target_kl`` as a factor, > 1; infinity: never adapt
    :param max_kl: largest exact KL of an update, nats per state; ``"target"`` for ``target_kl``, None for no limit; see
        ``on_max_kl``
    :param adapt_after: ``"update"``: one step after the last epoch, as in the paper; ``"epoch"``: a step after every
        epoch e of E, against the target ramped to ``target_kl * e / E``
    """

    adaptation_factor: float
    steered_from_outside = False  # by a callback, for the time of one training: then the KL moves nothing
    named_max_kl = ("target",)
    adaptation_moments: ClassVar[tuple[str, ...]] = ("epoch", "update")  # what ``adapt_after`` may be

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ours = package_of(AdaptiveUpdateMixin)
        adaptive = [base.__name__ for base in cls.__mro__ if package_of(base) == ours and "adjust" in vars(base)]
        if len(adaptive) > 2:  # the last one is this class
            raise TypeError(
                f"{cls.__name__} has {' and '.join(adaptive[:-1])}: they share `target_kl`, and the first would "
                "keep the others from adapting; take one of them"
            )

    def __init__(
        self,
        *args: Any,
        kl_tolerance: float = 1.5,
        adapt_after: Literal["epoch", "update"] = "epoch",
        max_kl: float | Literal["target"] | None = "target",
        **kwargs: Any,
    ) -> None:
        self.kl_tolerance = kl_tolerance
        self.adapt_after: Literal["minibatch", "epoch", "update"] = adapt_after
        super().__init__(*args, max_kl=max_kl, **kwargs)

    def adjust(self, controller: BandController, kl: float, target: float) -> Adjustment:
        """Move the variant's coefficient by at most one step.

        :param controller: the rule
        :param kl: measured, nats per state
        :param target: what to compare it with, nats per state
        :return: the outcome
        """
        raise NotImplementedError

    def limits_kl(self, kl: float) -> bool:
        """Say whether the coefficient is what limits the KL: if not, loosening it would only wind it up.

        That is so where the step size limits the KL, as when the learning rate decays to 0.

        :param kl: measured, nats per state
        """
        return True

    def epoch_mean(self, name: str) -> float:
        """Average a metric of the update being made over its latest epoch.

        :param name: a field of ``MinibatchMetrics``
        """
        assert self._trace is not None  # an update is being made
        return self._trace.mean_of_last_epoch(name)

    def check_arguments(self) -> None:
        super().check_arguments()
        checks.check_controller(self)

    def update_coefficients(self) -> dict[str, Number]:
        return {**super().update_coefficients(), "target_kl": self.current_target_kl()}

    def current_target_kl(self) -> float:
        """Return the set point of this update, nats per state; 0 where a schedule that ends at 0 is past its end."""
        assert self.target_kl is not None  # refused by check_arguments
        return max(self.scheduled("target_kl", self.target_kl), 0.0)

    def adapts(self) -> bool:
        """Say whether the KL moves the coefficient: if not, ``max_kl="target"`` does not stop updates either."""
        return self.kl_tolerance < math.inf and not self.steered_from_outside

    def has_target(self) -> bool:
        """Say whether anything depends on ``target_kl``."""
        return True

    def update_rules(self) -> UpdateRules:
        rules, adapts, moment = super().update_rules(), self.adapts(), self.adapt_after
        return rules._replace(
            kl_every_check=adapts and moment == "minibatch",
            kl_every_epoch=adapts and moment == "epoch",
            kl_decides=adapts and self._adapts_after_update(),
        )

    def kl_limit(self) -> float | None:
        if self.max_kl == "target":
            return self.current_target_kl() if self.adapts() else None
        return super().kl_limit()

    def after_check(self, kl: float, progress: float) -> None:
        if self.adapt_after == "minibatch":
            self._adapt(kl, progress)

    def after_epoch(self, kl: float, progress: float) -> None:
        if self.adapt_after == "epoch":
            self._adapt(kl, progress)

    def after_update(self, kl: float, progress: float) -> None:
        if self._adapts_after_update():
            self._adapt(kl, progress)

    def _adapts_after_update(self) -> bool:
        """Say whether the KL after the last step counts: of an update of one step there is no other."""
        return self.adapt_after != "minibatch" or self.n_epochs * self._minibatches_per_epoch() == 1

    def record_state(self) -> None:
        super().record_state()
        if self.has_target():
            self.logger.record("train/target_kl", self.current_target_kl())

    def _update_learning_rate(self, optimizers: list[th.optim.Optimizer] | th.optim.Optimizer) -> None:
        super()._update_learning_rate(optimizers)
        rate = self.lr_schedule(self._current_progress_remaining)
        if rate < 0 and self.adapts():  # beyond total_timesteps; stock goes on, and would maximise a penalty
            self._set_learning_rate(optimizers, 0.0)

    def _set_learning_rate(self, optimizers: list[th.optim.Optimizer] | th.optim.Optimizer, rate: float) -> None:
        self.logger.record("train/learning_rate", rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            update_learning_rate(optimizer, rate)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        self.steered_from_outside = False
        checks.check_live_state(self)
        return super()._setup_learn(*args, **kwargs)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "steered_from_outside"]

    def _adapt(self, kl: float, progress: float) -> None:
        if not self.adapts():
            return
        if not math.isfinite(kl):
            warnings.warn(
                f"the measured KL divergence is {kl}: the trust region is tightened by one step", stacklevel=2
            )
        target = self.current_target_kl()
        if target == 0:  # every KL is above it
            return
        if self.adapt_after == "epoch":
            target *= max(progress, 0.01)
        controller = BandController(self.kl_tolerance, self.adaptation_factor)
        if controller.verdict(kl, target) == "below" and not self.limits_kl(kl):
            self.logger.record("train/saturated", 1.0)
            return
        adjustment = self.adjust(controller, kl, target)
        self.logger.record("train/saturated", float(adjustment.saturated))

"""Fine-tuning without losing what was cloned: a KL to a reference policy (Ziegler et al. 2019, arXiv:1909.08593)."""

from typing import Any

import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_ppo_variants.extend import (
    Evaluation,
    Number,
    PolicyUpdateMixin,
    check_positive,
    evaluate_minibatch,
    masked_mean,
    require,
    snapshot_policy,
    valid_steps,
    within,
)


class ReferenceKLMixin(PolicyUpdateMixin):
    """PPO's loss plus ``reference_coef KL(policy || reference)``; training starts from the reference.

    :param reference: path of a saved model with the same networks, of any algorithm with such a policy
    :param reference_coef: weight of the KL, >= 0 or a schedule; 0 is PPO from that policy on
    """

    extra_metric_names = ("reference_kl",)

    def __init__(self, *args: Any, reference: str | None = None, reference_coef: float = 0.2, **kwargs: Any) -> None:
        self.reference = reference
        self.reference_coef = reference_coef
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        require(isinstance(self.reference, str), "`reference` must be a path", self.reference, "name a saved model")
        super()._setup_model()
        _, saved, _ = load_from_zip_file(str(self.reference), load_data=False, device=self.device)
        self.policy.load_state_dict(saved["policy"])
        self.reference_policy = snapshot_policy(self.policy)

    def update_coefficients(self) -> dict[str, Number]:
        coef = self.scheduled("reference_coef", self.reference_coef)
        return {**super().update_coefficients(), "reference_coef": coef}

    def reference_kl(self, minibatch: Any, new: Evaluation) -> th.Tensor:
        with th.no_grad():  # an LSTM reference begins each sequence in the state that the current policy was in
            reference = evaluate_minibatch(self.reference_policy, minibatch)
        return masked_mean(new.distribution.kl(new.parameters, reference.parameters), valid_steps(minibatch))

    def extra_loss(self, minibatch: Any, new: Evaluation, coefficients: dict[str, Number]) -> th.Tensor:
        # The paper takes the sampled KL off the reward, so that an action also answers for the states it leads to
        return coefficients["reference_coef"] * self.reference_kl(minibatch, new)

    def extra_metrics(self, minibatch: Any, new: Evaluation, coefficients: dict[str, Number]) -> dict[str, th.Tensor]:
        return {"reference_kl": self.reference_kl(minibatch, new)}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reference_policy"]


class AdaptiveReferenceKLMixin(ReferenceKLMixin):
    """The same with the coefficient ``reference_coef * model.reference_scale``, which follows the KL (section 2.2).

    ``e = clip(KL / target - 1, -0.2, 0.2)``, then ``scale *= 1 + 0.1 e``, after every update.

    :param target_reference_kl: set point > 0, nats per state; larger lets the policy go further from the reference
    """

    live_state = ("reference_scale",)

    def __init__(self, *args: Any, target_reference_kl: float = 0.05, **kwargs: Any) -> None:
        self.target_reference_kl = target_reference_kl
        self.reference_scale = 1.0
        super().__init__(*args, **kwargs)

    def check_arguments(self) -> None:
        super().check_arguments()
        check_positive(self, "target_reference_kl", "larger values bind less")

    def update_coefficients(self) -> dict[str, Number]:
        coefficients = super().update_coefficients()
        return {**coefficients, "reference_coef": coefficients["reference_coef"] * self.reference_scale}

    def record_state(self) -> None:
        super().record_state()
        self.logger.record("train/reference_scale", self.reference_scale)

    def after_update(self, kl: float, progress: float) -> None:
        super().after_update(kl, progress)
        assert self.last_update is not None  # it has just been made
        # The paper's KL is of whole episodes, under the policy that played them; here of the update's minibatches
        error = self.last_update.mean("reference_kl") / self.target_reference_kl - 1
        step = 1 + 0.1 * within(error, (-0.2, 0.2))
        self.reference_scale = within(self.reference_scale * step, (1e-3, 1e3))  # the paper has no bounds


class PPOReferenceKL(AdaptiveReferenceKLMixin, PPO):
    """PPO with an adaptive KL to a reference policy, on SB3's PPO."""


class RecurrentPPOReferenceKL(AdaptiveReferenceKLMixin, RecurrentPPO):
    """The same for LSTM policies."""


class MaskablePPOReferenceKL(AdaptiveReferenceKLMixin, MaskablePPO):
    """The same for invalid actions."""

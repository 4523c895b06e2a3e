"""The loss of one minibatch: its terms, and the numbers in it that change over training."""

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch as th
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import Schedule

from sb3_ppo_variants.update.kl_divergence import KLDirection, Parameters, directed_kl
from sb3_ppo_variants.update.losses import (
    Number,
    ValueClipping,
    ValueLoss,
    clipped_surrogate,
    masked_mean,
    normalize_advantages,
    outside_clip_range,
    value_errors,
)
from sb3_ppo_variants.update.policy_evaluation import Evaluation, valid_steps
from sb3_ppo_variants.update.update_metrics import MinibatchMetrics


class LossMixin(OnPolicyAlgorithm):
    """What an update minimises; a variant overrides ``update_coefficients``, ``surrogate`` or ``kl_penalty``."""

    penalizes_kl: ClassVar[bool] = False
    kl_direction: KLDirection = "forward"
    clip_range: Any  # the host turns a float into a FloatSchedule
    clip_range_vf: Any
    normalize_advantage: Any  # bool or "rollout": wider than the hosts' own types, like the next
    target_kl: Any  # float, schedule or None
    value_clipping: ValueClipping
    value_clip_scale: Literal["absolute", "return_std"]
    value_loss: ValueLoss

    def minibatch_loss(
        self, minibatch: Any, new: Evaluation, old: Parameters | None, coefficients: dict[str, Number]
    ) -> tuple[th.Tensor, MinibatchMetrics]:
        """Put the loss of one minibatch together; the same code serves every host and every acceleration.

        :param minibatch: the host's NamedTuple
        :param new: the current policy's evaluation of it
        :param old: parameters of the distribution before the update, if the loss needs them
        :param coefficients: from :meth:`update_coefficients`
        :return: scalar loss with gradient, and its parts without
        """
        c = coefficients
        mask = valid_steps(minibatch)
        advantages = self.advantages_of(minibatch, mask, c)
        log_ratio = new.log_prob - minibatch.old_log_prob
        ratio = th.exp(log_ratio)
        policy_loss = -masked_mean(self.surrogate(ratio, advantages, c), mask)
        value_range = c.get("clip_range_vf")
        errors = value_errors(
            new.values, minibatch.old_values, minibatch.returns, value_range, self.value_clipping, self.value_loss
        )
        value_loss = masked_mean(errors, mask)
        entropy_loss = -masked_mean(new.entropy, mask)
        loss = policy_loss + c["ent_coef"] * entropy_loss + c["vf_coef"] * value_loss
        zero = th.zeros((), device=loss.device)
        kl = zero
        if old is not None:
            with th.set_grad_enabled(self.penalizes_kl and th.is_grad_enabled()):
                kl = masked_mean(directed_kl(new.family, old, new.parameters, self.kl_direction), mask)
            if self.penalizes_kl:
                loss = loss + self.kl_penalty(kl, c)

        with th.no_grad():
            value_moves = zero
            if value_range is not None:
                value_moves = masked_mean(((new.values - minibatch.old_values).abs() > value_range).float(), mask)
            metrics = MinibatchMetrics(
                policy_loss=policy_loss.detach(),
                value_loss=value_loss.detach(),
                entropy_loss=entropy_loss.detach(),
                loss=loss.detach(),
                approx_kl=masked_mean((ratio - 1) - log_ratio, mask),
                clip_fraction=masked_mean(outside_clip_range(ratio, c["clip_range"], c["clip_range_upper"]), mask),
                value_clip_fraction=value_moves,
                ratio_max=(ratio if mask is None else ratio[mask]).max(),
                kl_divergence=kl.detach(),
                grad_norm=zero,
                skipped=zero,
            )
        return loss, metrics

    minibatch_loss.is_standard = True  # type: ignore[attr-defined]  # what written_gradient.py differentiates

    def advantages_of(self, minibatch: Any, mask: th.Tensor | None, coefficients: dict[str, Number]) -> th.Tensor:
        """Return a minibatch's advantages, normalised as ``normalize_advantage`` says.

        :param minibatch: the host's NamedTuple
        :param mask: bool, shape (n_batch,), True where the sample counts; None if all do
        :param coefficients: of this epoch
        :return: shape (n_batch,)
        """
        advantages: th.Tensor = minibatch.advantages
        if self.normalize_advantage == "rollout":
            return (advantages - coefficients["advantage_mean"]) / (coefficients["advantage_std"] + 1e-8)
        return normalize_advantages(advantages, mask) if self.normalize_advantage else advantages

    def update_coefficients(self) -> dict[str, Number]:
        """Compute the numbers of the next epoch; a variant adds or replaces entries.

        :return: by name, floats
        """
        clip_range = self.scheduled("clip_range", self.clip_range)
        coefficients: dict[str, Number] = {
            "clip_range": clip_range,
            "clip_range_upper": clip_range,
            "ent_coef": self.scheduled("ent_coef", self.ent_coef, lowest=-math.inf, finite=True),
            "vf_coef": self.scheduled("vf_coef", self.vf_coef, finite=True),
        }
        if self.clip_range_vf is not None:
            scale = float(np.std(self.rollout_buffer.returns)) if self.value_clip_scale == "return_std" else 1.0
            coefficients["clip_range_vf"] = self.scheduled("clip_range_vf", self.clip_range_vf) * scale
        if self.normalize_advantage == "rollout":
            advantages = self.rollout_buffer.advantages
            coefficients["advantage_mean"] = float(advantages.mean(dtype=np.float64))
            coefficients["advantage_std"] = float(advantages.std(ddof=1, dtype=np.float64))
        return coefficients

    def surrogate(self, ratio: th.Tensor, advantages: th.Tensor, coefficients: dict[str, Number]) -> th.Tensor:
        """Compute the objective of each sample, to be maximised: by default PPO's clipped one.

        :param ratio: shape (n_batch,)
        :param advantages: shape (n_batch,)
        :param coefficients: of this epoch
        :return: shape (n_batch,)
        """
        return clipped_surrogate(ratio, advantages, coefficients["clip_range"], coefficients["clip_range_upper"])

    surrogate.clips = True  # type: ignore[attr-defined]  # it is ratio * advantage or does not depend on the ratio

    def kl_penalty(self, kl: th.Tensor, coefficients: dict[str, Number]) -> th.Tensor:
        """Compute what is added to the loss for a KL divergence; called only if ``penalizes_kl``.

        :param kl: exact KL of the minibatch, scalar with gradient
        :param coefficients: of this epoch
        :return: scalar
        """
        raise NotImplementedError

    def kl_penalty_slope(self, kl: th.Tensor, coefficients: dict[str, Number]) -> Number:
        """Differentiate :meth:`kl_penalty` by the KL, for the fast path; not needed if ``slope_is_known`` is not set.

        :param kl: exact KL of the minibatch, scalar
        :param coefficients: of this epoch
        :return: scalar
        """
        raise NotImplementedError

    def scheduled(self, name: str, value: float | Schedule, lowest: float = 0.0, *, finite: bool = False) -> float:
        """Evaluate an argument that may be a schedule at the current progress.

        :param name: of the argument, for the error
        :param value: the argument
        :param lowest: smallest value allowed
        :param finite: whether infinity is no value
        :raises ValueError: for NaN, a smaller value, or infinity where it is none
        """
        number = float(value(self._current_progress_remaining)) if callable(value) else float(value)
        progress = self._current_progress_remaining
        # The last rollout may go beyond total_timesteps: then progress is negative and so is a schedule that ends at 0
        none = math.isnan(number) or (finite and math.isinf(number))
        if none or (number < lowest and progress >= 0):
            rule = f"`{name}` must be {'finite and ' if finite else ''}>= {lowest:g}"
            raise ValueError(f"{rule}, got {number} at progress_remaining = {progress:.3f}; change its schedule")
        return number

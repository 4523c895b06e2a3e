"""The loss of one minibatch: its terms, and the numbers in it that change over training."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import torch as th
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import Schedule

from sb3_ppo_variants.algorithms.own_terms import (
    Penalty,
    Terms,
    in_tensors,
    named_metrics,
    on_tensors,
    penalty_slope,
    slopes_of,
    takes_arrays,
)
from sb3_ppo_variants.arguments.schedules import schedule_value
from sb3_ppo_variants.distributed.data_parallel import DataParallelMixin
from sb3_ppo_variants.distributed.moments import sample_moments_over_ranks, std_over_ranks
from sb3_ppo_variants.update.arrays import as_floats, as_metric, detached, exp, zero
from sb3_ppo_variants.update.distributions import Slopes
from sb3_ppo_variants.update.kl_divergence import KLDirection, Parameters
from sb3_ppo_variants.update.losses import (
    Number,
    ValueClipping,
    ValueLoss,
    clipped_surrogate,
    masked_mean,
    normalize_advantages,
    outside_clip_range,
    surrogate_slopes,
    value_errors,
    value_slopes,
)
from sb3_ppo_variants.update.policy_evaluation import Evaluation, valid_steps
from sb3_ppo_variants.update.update_metrics import LOGGED_NAMES, MinibatchMetrics


class LossMixin(DataParallelMixin, OnPolicyAlgorithm):
    """What an update minimises; a variant overrides some of the terms.

    :param batch_size: samples per minibatch, integer >= 1; > 1 unless ``normalize_advantage=False``
    :param clip_range_vf: largest change of a value prediction: float > 0 or schedule; None for no value clipping
    :param normalize_advantage: True: per minibatch; ``"rollout"``: once over the rollout; False: not at all
    :param ent_coef: weight of the entropy bonus: number (negative allowed) or schedule; 0 switches it off
    :param vf_coef: weight of the value loss: number >= 0 or schedule
    """

    kl_in_loss: ClassVar[bool] = False
    """Whether ``surrogate``, ``kl_penalty`` or ``extra_loss`` uses the KL divergence."""
    extra_metric_names: ClassVar[tuple[str, ...]] = ()
    """Of what ``extra_metrics`` returns; their means over an update are logged as ``train/<name>``."""
    logged_names: ClassVar[frozenset[str]] = LOGGED_NAMES

    kl_direction: KLDirection = "forward"
    clip_range: Any  # the host turns a float into a FloatSchedule
    clip_range_vf: Any
    normalize_advantage: Any  # bool or "rollout": wider than the hosts' own types, like the next
    target_kl: Any  # float, schedule or None
    value_clipping: ValueClipping
    value_clip_scale: Literal["absolute", "return_std"]
    value_loss: ValueLoss
    _schedule_values: dict[str, Any] | None = None  # of the present update

    # ------------------------------------------------------------------------------------------ terms, to be overridden

    @takes_arrays
    def surrogate(
        self, ratio: th.Tensor, advantages: th.Tensor, kl: th.Tensor | None, coefficients: dict[str, Number]
    ) -> th.Tensor:
        """Compute the objective of each sample, to be maximised: by default PPO's clipped one.

        :param ratio: new over old probability of the action, shape (n_batch,)
        :param advantages: shape (n_batch,)
        :param kl: exact KL divergence of each state, shape (n_batch,); None unless it is measured, see ``kl_in_loss``
        :param coefficients: of this epoch
        :return: shape (n_batch,)
        """
        c = coefficients
        bounds = c["clip_range"], c["clip_range_upper"], c.get("dual_clip"), c.get("ratio_cap")
        surrogate: th.Tensor = clipped_surrogate(ratio, advantages, *bounds)
        return surrogate

    @takes_arrays
    def kl_penalty(self, kl: th.Tensor, coefficients: dict[str, Number]) -> Penalty | None:
        """Compute what is added to the loss for a KL divergence; called only if ``kl_in_loss``.

        :param kl: exact KL of the minibatch, scalar
        :param coefficients: of this epoch
        :return: None for nothing
        """
        return None

    def kl_penalty_is_linear(self) -> bool:
        """Say whether the penalty is a factor times the KL: if not, several processes exchange the KL for it."""
        return False

    def extra_loss(self, minibatch: Any, new: Evaluation, coefficients: dict[str, Number]) -> th.Tensor | None:
        """Compute a further term of the loss, such as an auxiliary task.

        :param minibatch: the host's NamedTuple
        :param new: the current policy's evaluation of it
        :param coefficients: of this epoch
        :return: scalar with gradient; None for nothing
        """
        return None

    def extra_metrics(
        self, minibatch: Any, new: Evaluation, coefficients: dict[str, Number]
    ) -> Mapping[str, th.Tensor]:
        """Measure something of a minibatch before its step, without gradient.

        :param minibatch: the host's NamedTuple
        :param new: the current policy's evaluation of it
        :param coefficients: of this epoch
        :return: numbers or 0-dim tensors by the names in ``extra_metric_names``
        """
        return {}

    # ------------------------------------------------------------------------------------------------- the loss of them

    def terms_of(self, minibatch: Any, new: Evaluation, old: Parameters | None, c: dict[str, Number]) -> Terms:
        """Compute what :meth:`minibatch_loss` and :meth:`loss_slopes` have in common; arguments as there."""
        mask = valid_steps(minibatch)
        advantages = self.advantages_of(minibatch, mask, c)
        log_ratio = new.log_prob - minibatch.old_log_prob
        ratio = exp(log_ratio)
        kl, mean_kl = self._kl_of(new, old, mask)
        shared = self.kl_in_loss and not self.kl_penalty_is_linear()
        kl_of_penalty = self.mean_over_ranks(mean_kl) if shared else mean_kl
        objective = on_tensors(self.surrogate)(ratio, advantages, kl if self.kl_in_loss else None, c)
        if objective.shape != ratio.shape:
            raise ValueError(f"surrogate() must return shape {tuple(ratio.shape)}, got {tuple(objective.shape)}")
        return Terms(mask, advantages, log_ratio, ratio, kl, mean_kl, kl_of_penalty, objective)

    def minibatch_loss(
        self,
        minibatch: Any,
        new: Evaluation,
        old: Parameters | None,
        coefficients: dict[str, Number],
        terms: Terms | None = None,
    ) -> tuple[th.Tensor, MinibatchMetrics]:
        """Put the loss of one minibatch together; the same code serves every host and every acceleration.

        It is a function of tensors, or, in the fast path's smallest steps, of numpy's arrays; the terms above always
        see tensors.

        :param minibatch: the host's NamedTuple
        :param new: the current policy's evaluation of it
        :param old: parameters of the distribution before the update, if the loss or a limit needs them
        :param coefficients: from :meth:`update_coefficients`
        :param terms: from :meth:`terms_of`; None to compute them here
        :return: scalar loss with gradient, and its parts without
        """
        c, terms = coefficients, terms or self.terms_of(minibatch, new, old, coefficients)
        mask, ratio = terms.mask, terms.ratio
        policy_loss = -masked_mean(terms.objective, mask)
        value_range = c.get("clip_range_vf")
        errors = value_errors(
            new.values, minibatch.old_values, minibatch.returns, value_range, self.value_clipping, self.value_loss
        )
        value_loss = masked_mean(errors, mask)
        entropy_loss = -masked_mean(new.entropy, mask)
        loss = policy_loss + c["ent_coef"] * entropy_loss + c["vf_coef"] * value_loss
        penalty = on_tensors(self.kl_penalty)(terms.kl_of_penalty, c) if self.kl_in_loss else None
        if penalty is not None:
            loss = loss + penalty.value
        extra = self.extra_loss(minibatch, new, c)
        if extra is not None:
            loss = loss + extra

        with th.no_grad():
            nothing = value_moves = zero(like=loss)
            if value_range is not None:
                value_moves = masked_mean(as_floats(abs(new.values - minibatch.old_values) > value_range), mask)
            own = self.extra_metric_names
            measured = named_metrics(self.extra_metrics(in_tensors(minibatch), in_tensors(new), c), own) if own else {}
            metrics = MinibatchMetrics(
                policy_loss=detached(policy_loss),
                value_loss=detached(value_loss),
                entropy_loss=detached(entropy_loss),
                loss=detached(loss),
                approx_kl=masked_mean((ratio - 1) - terms.log_ratio, mask),
                clip_fraction=masked_mean(outside_clip_range(ratio, c["clip_range"], c["clip_range_upper"]), mask),
                value_clip_fraction=value_moves,
                ratio_max=(ratio if mask is None else ratio[mask]).max(),
                kl_divergence=detached(terms.mean_kl),
                grad_norm=nothing,
                skipped=nothing,
                policy_gain=masked_mean(terms.objective - terms.advantages, mask) if self.kl_in_loss else nothing,
                extra={name: as_metric(value, like=loss) for name, value in measured.items()},
            )
        return loss, metrics

    def _kl_of(self, new: Evaluation, old: Parameters | None, mask: th.Tensor | None) -> tuple[Any, th.Tensor]:
        """Compute the exact KL of each state, or None, and its mean; with gradient if the loss uses it."""
        if old is None:
            return None, zero(like=new.values)
        with nullcontext() if self.kl_in_loss else th.no_grad():
            kl = new.distribution.directed_kl(old, new.parameters, self.kl_direction)
            return kl, masked_mean(kl, mask)

    def loss_slopes(self, minibatch: Any, new: Evaluation, coefficients: dict[str, Number], terms: Terms) -> Slopes:
        """Differentiate :meth:`minibatch_loss` by what the policy says of each sample: see :meth:`derivative_obstacle`.

        A variant's own surrogate is differentiated by autograd, which then records nothing but that.

        :param minibatch: the host's NamedTuple, without padding
        :param new: the current policy's evaluation of it, without gradient
        :param coefficients: of this epoch
        :param terms: from :meth:`terms_of`
        """
        c, n, kl_slope = coefficients, len(new.values), None
        if getattr(self.surrogate, "__func__", None) is LossMixin.surrogate:
            slope = surrogate_slopes(terms.objective, terms.ratio, terms.advantages, c.get("ratio_cap"))
        else:
            kl = terms.kl if self.kl_in_loss else None
            slope, kl_slope = slopes_of(self.surrogate, terms.log_ratio, terms.advantages, kl, c)
            kl_slope = None if kl_slope is None else kl_slope / -n
        penalty = penalty_slope(self.kl_penalty, terms.kl_of_penalty, c) if self.kl_in_loss else None
        if penalty is not None:
            kl_slope = penalty / n if kl_slope is None else kl_slope + penalty / n
        value_range = c.get("clip_range_vf")
        by_value = value_slopes(
            new.values, minibatch.old_values, minibatch.returns, value_range, self.value_clipping, self.value_loss
        )
        return Slopes(slope / -n, c["ent_coef"] / -n, kl_slope, by_value * (c["vf_coef"] / n), self.kl_direction)

    def derivative_obstacle(self) -> str | None:
        """Say why :meth:`loss_slopes` is not the derivative of this variant's loss; None if it is."""
        for name in ("terms_of", "minibatch_loss", "loss_slopes", "extra_loss"):
            if getattr(type(self), name) is not getattr(LossMixin, name) or name in vars(self):
                return f"the variant has its own {name}()"
        return None

    def array_obstacle(self) -> str | None:
        """Say why the loss cannot be computed with numpy's arrays instead of tensors; None if it can."""
        own = getattr(self.advantages_of, "__func__", None) is not LossMixin.advantages_of
        return "the variant has its own advantages_of()" if own else None

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
        alone = self.ranks.size == 1  # else who reads the minibatch normalises over all ranks
        if self.normalize_advantage and alone:
            advantages = normalize_advantages(advantages, mask)
        return advantages

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
            scaled = self.value_clip_scale == "return_std"
            scale = std_over_ranks(self.ranks, self.rollout_buffer.returns) if scaled else 1.0
            coefficients["clip_range_vf"] = self.scheduled("clip_range_vf", self.clip_range_vf) * scale
        if self.normalize_advantage == "rollout":
            mean, std = sample_moments_over_ranks(self.ranks, self.rollout_buffer.advantages)
            coefficients |= {"advantage_mean": mean, "advantage_std": std}
        return coefficients

    def scheduled(self, name: str, value: float | Schedule, lowest: float = 0.0, *, finite: bool = False) -> float:
        """Evaluate an argument that may be a schedule at the current progress.

        :param name: of the argument, for the error
        :param value: the argument
        :param lowest: smallest value allowed
        :param finite: whether infinity is no value
        :raises ValueError: for NaN, a smaller value, or infinity where it is none
        """
        progress = self._current_progress_remaining
        number = schedule_value(name, value, progress, self._schedule_values)
        # The last rollout may go beyond total_timesteps: then progress is negative and so is a schedule that ends at 0
        none = math.isnan(number) or (finite and math.isinf(number))
        if none or (number < lowest and progress >= 0):
            rule = f"`{name}` must be {'finite and ' if finite else ''}>= {lowest:g}"
            raise ValueError(f"{rule}, got {number} at progress_remaining = {progress:.3f}; change its schedule")
        return number

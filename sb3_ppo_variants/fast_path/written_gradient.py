"""The gradient of the loss with respect to the networks' outputs, written out instead of recorded by autograd.

The loss of a minibatch is a few dozen tiny operations; recording and replaying them costs more than the networks. Its
*value* still comes from the one place that defines it (``minibatch_loss``); this module only knows its derivative, for
the terms listed in :func:`written_gradient_obstacle`, and the tests hold it against autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)

from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.policy_evaluation import Evaluation

if TYPE_CHECKING:
    from sb3_ppo_variants.algorithms.policy_update import PolicyUpdateMixin


class Weights(NamedTuple):
    """Derivative of the loss with respect to the sample's log-probability, entropy and KL(old || new).

    :param log_prob: shape (n_batch,)
    :param entropy: the same for every sample
    :param kl: the same for every sample; None without a penalty
    """

    log_prob: th.Tensor
    entropy: Number
    kl: Number | None


class OutputGradient(NamedTuple):
    """Derivative of the loss with respect to what the networks give out.

    :param output: of the action net, shape (n_batch, n_outputs)
    :param values: shape (n_batch,)
    :param log_std: shape (n_dimensions,); None where the policy has none
    """

    output: th.Tensor
    values: th.Tensor
    log_std: th.Tensor | None


_Gradient = tuple[th.Tensor, th.Tensor | None]


def _gaussian(new: Parameters, old: Parameters | None, actions: th.Tensor, weights: Weights) -> _Gradient:
    mean, log_std = new
    inverse = th.exp(-log_std)
    standardized = (actions - mean) * inverse
    weight = weights.log_prob.unsqueeze(1)
    weighted = weight * standardized
    mean_gradient = weighted * inverse
    log_std_gradient = weighted * standardized - weight + weights.entropy
    if weights.kl is not None and old is not None:
        distance = (mean - old[0]) * inverse
        mean_gradient = mean_gradient + weights.kl * distance * inverse
        log_std_gradient = log_std_gradient - weights.kl * (th.expm1(2 * (old[1] - log_std)) + distance**2)
    return mean_gradient, log_std_gradient.sum(dim=0)


def _categorical(new: Parameters, old: Parameters | None, actions: th.Tensor, weights: Weights) -> _Gradient:
    columns = actions.long().reshape(len(actions), -1)
    weight = weights.log_prob.unsqueeze(1)
    gradients = []
    for i, log_p in enumerate(new):
        p = log_p.exp()
        gradient = (-weight * p).scatter_add_(1, columns[:, i : i + 1], weight)
        if isinstance(weights.entropy, th.Tensor) or weights.entropy != 0:
            terms = p * log_p
            gradient -= weights.entropy * (terms - p * terms.sum(dim=1, keepdim=True))
        if weights.kl is not None and old is not None:
            gradient += weights.kl * (p - old[i].exp())
        gradients.append(gradient)
    return (th.cat(gradients, dim=1) if len(gradients) > 1 else gradients[0]), None


def _bernoulli(new: Parameters, old: Parameters | None, actions: th.Tensor, weights: Weights) -> _Gradient:
    p = th.sigmoid(new[0])
    gradient = weights.log_prob.unsqueeze(1) * (actions - p) - weights.entropy * new[0] * p * (1 - p)
    if weights.kl is not None and old is not None:
        gradient = gradient + weights.kl * (p - th.sigmoid(old[0]))
    return gradient, None


_GRADIENTS: dict[type[Distribution], Callable[[Parameters, Parameters | None, th.Tensor, Weights], _Gradient]] = {
    DiagGaussianDistribution: _gaussian,
    CategoricalDistribution: _categorical,
    MultiCategoricalDistribution: _categorical,
    BernoulliDistribution: _bernoulli,
}


def written_gradient(
    algorithm: PolicyUpdateMixin,
    minibatch: Any,
    new: Evaluation,
    old: Parameters | None,
    coefficients: dict[str, Number],
    kl: th.Tensor,
) -> OutputGradient:
    """Differentiate ``algorithm.minibatch_loss``.

    The clipped surrogate, asymmetric or dual, either equals ``ratio * advantage`` or does not depend on the ratio.

    :param algorithm: one for which :func:`written_gradient_obstacle` finds nothing
    :param minibatch: the host's NamedTuple
    :param new: the current policy's evaluation of it
    :param old: parameters of the distribution before the update, if the loss needs them
    :param coefficients: of this epoch
    :param kl: exact KL of the minibatch, scalar
    :return: with respect to the networks' outputs
    """
    c = coefficients
    n = len(new.values)
    advantages = algorithm.advantages_of(minibatch, None, c)
    ratio = th.exp(new.log_prob - minibatch.old_log_prob)
    unclipped = advantages * ratio
    active = algorithm.surrogate(ratio, advantages, c) == unclipped
    weights = Weights(
        log_prob=unclipped * active / -n,
        entropy=c["ent_coef"] / -n,
        kl=algorithm.kl_penalty_slope(kl, c) / n if algorithm.penalizes_kl else None,
    )
    output, log_std = _GRADIENTS[type(algorithm.policy.action_dist)](new.parameters, old, minibatch.actions, weights)
    return OutputGradient(output, (new.values - minibatch.returns) * (2 * c["vf_coef"] / n), log_std)


def written_gradient_obstacle(algorithm: PolicyUpdateMixin) -> str | None:
    """Say why the derivative of a model's loss is not written out here.

    :param algorithm: whose policy is a plain MLP with a closed form
    :return: the reason, or None if it is
    """
    cls = type(algorithm)
    if not getattr(cls.surrogate, "clips", False) or not getattr(cls.minibatch_loss, "is_standard", False):
        return "the variant has a loss of its own"
    if algorithm.penalizes_kl and not getattr(cls.kl_penalty, "slope_is_known", False):
        return "the variant has a penalty of its own"
    if algorithm.penalizes_kl and algorithm.kl_direction != "forward":
        return "the penalty is on the reverse KL"
    if algorithm.clip_range_vf is not None or algorithm.value_loss != "mse":
        return "the value loss is clipped or not the squared error"
    return None

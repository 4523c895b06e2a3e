"""Exact KL divergence between two action distributions, in log space and summed over action dimensions.

Everywhere in this package KL(old || new) means the expectation under the *old* policy. A distribution is reduced to the
tuple of tensors that determines it (its parameters): these can be kept from before an update, indexed per minibatch
and compared, whereas SB3's distribution objects are shared and overwritten by the next forward pass.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import torch as th
import torch.nn.functional as F
from sb3_contrib.common.maskable.distributions import (
    MaskableCategoricalDistribution,
    MaskableMultiCategoricalDistribution,
)
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)

Parameters: TypeAlias = tuple[th.Tensor, ...]
KLDirection: TypeAlias = Literal["forward", "reverse"]


class DistributionFamily(NamedTuple):
    """How to read the parameters of a distribution and how to compare two sets of them.

    :param parameters: from an evaluated SB3 distribution to tensors whose first dimension is n_batch
    :param kl: KL(p || q) from the parameters of p and of q, shape (n_batch,), in nats
    """

    parameters: Callable[[Distribution], Parameters]
    kl: Callable[[Parameters, Parameters], th.Tensor]


def categorical_kl(p: Parameters, q: Parameters) -> th.Tensor:
    """KL(p || q) of independent categorical variables.

    torch's own version returns infinity once a probability underflows (Ray issue #21297); the sum over
    log-probabilities stays finite. Choices that are masked out in both have probability 0 and contribute nothing.

    :param p: normalised log-probabilities, one tensor of shape (n_batch, n_choices) per variable
    :param q: likewise
    :return: shape (n_batch,), nats
    """
    terms = [(log_p.exp() * (log_p - log_q)).sum(dim=-1) for log_p, log_q in zip(p, q, strict=True)]
    return th.stack(terms).sum(dim=0) if len(terms) > 1 else terms[0]


def bernoulli_kl(p: Parameters, q: Parameters) -> th.Tensor:
    """KL(p || q) of independent binary variables.

    :param p: one tensor of logits, shape (n_batch, n_variables)
    :param q: likewise
    :return: shape (n_batch,), nats
    """
    (p_logits,), (q_logits,) = p, q
    ones = F.logsigmoid(p_logits) - F.logsigmoid(q_logits)
    zeros = F.logsigmoid(-p_logits) - F.logsigmoid(-q_logits)
    return (th.sigmoid(p_logits) * ones + th.sigmoid(-p_logits) * zeros).sum(dim=-1)


def gaussian_kl(p: Parameters, q: Parameters) -> th.Tensor:
    """KL(p || q) of diagonal Gaussians; a bijection such as tanh applied to both leaves it unchanged.

    Written in the difference of the log standard deviations, so that the gradient at p = q is exactly zero.

    :param p: mean and log standard deviation, each of shape (n_batch, n_dimensions)
    :param q: likewise
    :return: shape (n_batch,), nats
    """
    (p_mean, p_log_std), (q_mean, q_log_std) = p, q
    log_scale = p_log_std - q_log_std
    distance = (p_mean - q_mean) * th.exp(-q_log_std)
    return (0.5 * th.expm1(2 * log_scale) - log_scale + 0.5 * distance**2).sum(dim=-1)


CATEGORICAL = DistributionFamily(lambda dist: (dist.distribution.logits,), categorical_kl)  # type: ignore[union-attr]  # one torch distribution
MULTI_CATEGORICAL = DistributionFamily(lambda dist: tuple(part.logits for part in dist.distribution), categorical_kl)  # type: ignore[union-attr]  # a list
MASKABLE_MULTI = DistributionFamily(lambda dist: tuple(part.logits for part in dist.distributions), categorical_kl)  # type: ignore[attr-defined]  # contrib's name
BERNOULLI = DistributionFamily(lambda dist: (dist.distribution.logits,), bernoulli_kl)  # type: ignore[union-attr]  # one torch distribution
GAUSSIAN = DistributionFamily(
    lambda dist: (dist.distribution.mean, dist.distribution.scale.log()),  # type: ignore[union-attr]  # a torch Normal
    gaussian_kl,
)

_families: dict[type[Distribution], DistributionFamily] = {
    CategoricalDistribution: CATEGORICAL,
    MultiCategoricalDistribution: MULTI_CATEGORICAL,
    BernoulliDistribution: BERNOULLI,
    DiagGaussianDistribution: GAUSSIAN,  # and its subclass SquashedDiagGaussianDistribution
    StateDependentNoiseDistribution: GAUSSIAN,
    MaskableCategoricalDistribution: CATEGORICAL,
    MaskableMultiCategoricalDistribution: MASKABLE_MULTI,  # and its subclass MaskableBernoulliDistribution
}


def register_distribution(distribution_class: type[Distribution], family: DistributionFamily) -> None:
    """Make a custom distribution usable with exact KL.

    :param distribution_class: subclasses are covered too
    :param family: how to read and compare its parameters
    """
    _families[distribution_class] = family


def distribution_family(distribution: Distribution) -> DistributionFamily:
    """Look up how the KL divergence of a distribution is computed.

    :param distribution: an SB3 distribution
    :return: the family registered for its class, or for the nearest base class
    :raises TypeError: for a class that nothing is known of
    """
    for cls in type(distribution).__mro__:
        if cls in _families:
            return _families[cls]
    known = ", ".join(sorted(cls.__name__ for cls in _families))
    raise TypeError(
        f"no exact KL divergence is known for {type(distribution).__name__}; supported are {known} and their "
        "subclasses; add yours with sb3_ppo_variants.kl_divergence.register_distribution(cls, DistributionFamily(...))"
    )


def kl_divergence(old: Distribution, new: Distribution, direction: KLDirection = "forward") -> th.Tensor:
    """Exact KL divergence of two evaluated distributions of the same class.

    The two must be different objects: SB3 policies overwrite the one they own at every forward pass.

    :param old: distribution of the policy that collected the data
    :param new: distribution of the policy being optimised
    :param direction: ``"forward"`` for KL(old || new), ``"reverse"`` for KL(new || old)
    :return: shape (n_batch,), nats, of the joint action (summed over action dimensions)
    :raises TypeError: for different classes, or a class without a registered family
    :raises ValueError: for an unknown direction
    """
    if direction not in ("forward", "reverse"):
        raise ValueError(f"`direction` must be 'forward' or 'reverse', got {direction!r}")
    if type(old) is not type(new):
        raise TypeError(f"the distributions must be of one class, got {type(old).__name__} and {type(new).__name__}")
    family = distribution_family(old)
    return directed_kl(family, family.parameters(old), family.parameters(new), direction)


def directed_kl(family: DistributionFamily, old: Parameters, new: Parameters, direction: KLDirection) -> th.Tensor:
    """KL divergence from the parameters of the old and the new distribution.

    :param family: of both
    :param old: parameters before the update
    :param new: parameters now
    :param direction: ``"forward"`` for KL(old || new), ``"reverse"`` for KL(new || old)
    :return: shape (n_batch,), nats
    """
    return family.kl(old, new) if direction == "forward" else family.kl(new, old)

"""Exact KL divergence between two action distributions, in log space and summed over action dimensions.

Everywhere in this package KL(old || new) means the expectation under the *old* policy. A distribution is reduced to the
tuple of tensors that determines it (its parameters). These can be kept from before an update, indexed per minibatch
and compared. SB3's distribution objects cannot: they are shared and overwritten by the next forward pass.
"""

from typing import Literal, TypeAlias

from sb3_ppo_variants.update.arrays import Array, exp, library, log_sigmoid, row_sums, sigmoid

Parameters: TypeAlias = tuple[Array, ...]
"""Tensors, or numpy's arrays, whose first dimension is n_batch."""
KLDirection: TypeAlias = Literal["forward", "reverse"]


def categorical_kl(p: Parameters, q: Parameters) -> Array:
    """KL(p || q) of independent categorical variables.

    torch's own version returns infinity once a probability underflows (Ray issue #21297); the sum over
    log-probabilities stays finite. Choices that are masked out in both have probability 0 and contribute nothing.

    :param p: normalised log-probabilities, one tensor of shape (n_batch, n_choices) per variable
    :param q: likewise
    :return: shape (n_batch,), nats
    """
    first, *others = [row_sums(exp(log_p) * (log_p - log_q)) for log_p, log_q in zip(p, q, strict=True)]
    return sum(others, first)


def bernoulli_kl(p: Parameters, q: Parameters) -> Array:
    """KL(p || q) of independent binary variables.

    :param p: one tensor of logits, shape (n_batch, n_variables)
    :param q: likewise
    :return: shape (n_batch,), nats
    """
    (p_logits,), (q_logits,) = p, q
    ones = log_sigmoid(p_logits) - log_sigmoid(q_logits)
    zeros = log_sigmoid(-p_logits) - log_sigmoid(-q_logits)
    return row_sums(sigmoid(p_logits) * ones + sigmoid(-p_logits) * zeros)


def gaussian_kl(p: Parameters, q: Parameters) -> Array:
    """KL(p || q) of diagonal Gaussians; a bijection such as tanh applied to both leaves it unchanged.

    Written in the difference of the log standard deviations, so that the gradient at p = q is exactly zero.

    :param p: mean and log standard deviation, each of shape (n_batch, n_dimensions)
    :param q: likewise
    :return: shape (n_batch,), nats
    """
    (p_mean, p_log_std), (q_mean, q_log_std) = p, q
    log_scale = p_log_std - q_log_std
    distance = (p_mean - q_mean) * exp(-q_log_std)
    return row_sums(0.5 * library(log_scale).expm1(2 * log_scale) - log_scale + 0.5 * distance**2)


__all__ = ["KLDirection", "Parameters", "bernoulli_kl", "categorical_kl", "gaussian_kl"]

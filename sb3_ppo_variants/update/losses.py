"""Surrogate objectives, value losses and advantage normalisation as pure functions of tensors.

Per-sample functions return shape (n_batch,); ``masked_mean`` reduces them, so that padded steps of recurrent
minibatches can be left out in one place. Coefficients may be floats or 0-dim tensors on the samples' device.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch as th
import torch.nn.functional as F

Number = float | th.Tensor
ValueClipping = Literal["pessimistic", "sb3"]
ValueLoss = Literal["mse", "huber"]


class Penalty(NamedTuple):
    """What is added to a loss for the KL divergence of its minibatch.

    :param value: scalar
    :param slope: derivative of the value by the KL; None to have it differentiated
    """

    value: th.Tensor
    slope: Number | None = None


def masked_mean(values: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    """Average the samples that count.

    :param values: shape (n_batch,)
    :param mask: bool, shape (n_batch,), True where the sample counts; None if all do
    :return: scalar
    """
    return values.mean() if mask is None else values[mask].mean()


def normalize_advantages(advantages: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    """Shift and scale one minibatch of advantages to mean 0 and standard deviation 1.

    A single sample is returned as it is: its standard deviation is not defined (SB3 issue #325).

    :param advantages: shape (n_batch,)
    :param mask: bool, shape (n_batch,), True where the sample counts towards mean and standard deviation
    :return: shape (n_batch,)
    """
    counted = advantages if mask is None else advantages[mask]
    if len(counted) == 1:
        return advantages
    return (advantages - counted.mean()) / (counted.std() + 1e-8)


def clipped_surrogate(
    ratio: th.Tensor, advantages: th.Tensor, clip_low: Number, clip_high: Number, dual_clip: Number | None = None
) -> th.Tensor:
    """Pessimistic clipped objective L_CLIP of each sample, to be maximised.

    ``min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)``; PPO paper (arXiv:1707.06347), eq. 7. Different values below
    and above give the asymmetric range of DAPO (arXiv:2503.14476). With ``dual_clip`` = c, samples of negative
    advantage are bounded from below by ``c A`` (arXiv:1912.09729, eq. 5).

    :param ratio: new over old action probability, shape (n_batch,)
    :param advantages: shape (n_batch,)
    :param clip_low: distance of the lower end of the range from 1
    :param clip_high: distance of the upper end of the range from 1
    :param dual_clip: bound c > 1; None for no bound
    :return: shape (n_batch,)
    """
    surrogate = advantages * ratio
    if not _unbounded(clip_low, clip_high):
        surrogate = th.min(surrogate, advantages * th.clamp(ratio, 1 - clip_low, 1 + clip_high))  # type: ignore[arg-type]  # each bound a float or a tensor
    if dual_clip is not None:
        surrogate = th.where(advantages < 0, th.max(surrogate, dual_clip * advantages), surrogate)
    return surrogate


def outside_clip_range(ratio: th.Tensor, clip_low: Number, clip_high: Number) -> th.Tensor:
    """Mark the samples whose ratio lies outside the clip range; their share is the clip fraction.

    :param ratio: shape (n_batch,)
    :param clip_low: distance of the lower end of the range from 1
    :param clip_high: distance of the upper end of the range from 1
    :return: 0.0 or 1.0 per sample, shape (n_batch,)
    """
    if _unbounded(clip_low, clip_high):
        return th.zeros_like(ratio)
    distance = ratio - 1
    return ((distance > clip_high) | (distance < -clip_low)).float()


def value_errors(
    values: th.Tensor,
    old_values: th.Tensor,
    returns: th.Tensor,
    clip_range: Number | None = None,
    clipping: ValueClipping = "pessimistic",
    loss: ValueLoss = "mse",
) -> th.Tensor:
    """Value loss of each sample.

    With a ``clip_range`` the prediction may leave the old one by that much: ``"pessimistic"`` takes the larger of the
    clipped and the unclipped error (OpenAI baselines, ppo2/model.py), ``"sb3"`` the clipped error only
    (stable_baselines3/ppo/ppo.py), which gives samples outside the range no gradient either way (SB3 issue #159).

    :param values: new predictions, shape (n_batch,)
    :param old_values: predictions during the rollout, shape (n_batch,)
    :param returns: TD(lambda) targets, shape (n_batch,)
    :param clip_range: largest change of the prediction, in return units; None for no clipping
    :param clipping: ``"pessimistic"`` or ``"sb3"``
    :param loss: ``"mse"`` for the squared error, ``"huber"`` for torch's Huber loss with delta = 1
    :return: shape (n_batch,)
    """
    if clip_range is None:
        return _error(values, returns, loss)
    clipped = old_values + th.clamp(values - old_values, -clip_range, clip_range)  # type: ignore[arg-type]  # as above
    errors = _error(clipped, returns, loss)
    return th.max(_error(values, returns, loss), errors) if clipping == "pessimistic" else errors


def value_slopes(
    values: th.Tensor,
    old_values: th.Tensor,
    returns: th.Tensor,
    clip_range: Number | None = None,
    clipping: ValueClipping = "pessimistic",
    loss: ValueLoss = "mse",
) -> th.Tensor:
    """Differentiate :func:`value_errors` by the predictions.

    :param values: as there, like the following
    :param old_values: as there
    :param returns: as there
    :param clip_range: as there
    :param clipping: as there
    :param loss: as there
    :return: shape (n_batch,)
    """
    slopes = _error_slope(values, returns, loss)
    if clip_range is None:
        return slopes
    change = values - old_values
    clipped = old_values + th.clamp(change, -clip_range, clip_range)  # type: ignore[arg-type]  # as above
    of_clipped = _error_slope(clipped, returns, loss).masked_fill(change.abs() > clip_range, 0.0)
    if clipping == "sb3":
        return of_clipped
    return th.where(_error(values, returns, loss) >= _error(clipped, returns, loss), slopes, of_clipped)


def slopes_of(
    function: Callable[[th.Tensor, th.Tensor | None], th.Tensor], log_ratio: th.Tensor, kl: th.Tensor | None
) -> tuple[th.Tensor, th.Tensor | None]:
    """Differentiate a sum over samples by log-ratio and KL of each.

    :param function: of both, a scalar
    :param log_ratio: shape (n_batch,)
    :param kl: shape (n_batch,), or None
    :return: two tensors of shape (n_batch,); None for a KL that has no part in it
    """
    with th.enable_grad():
        leaves = [x.detach().requires_grad_() for x in (log_ratio, kl) if x is not None]
        total = function(leaves[0], leaves[1] if kl is not None else None)
        slopes = th.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(leaves)
    by_ratio = th.zeros_like(log_ratio) if slopes[0] is None else slopes[0]
    return by_ratio, None if kl is None else slopes[1]


def _unbounded(*bounds: Number) -> bool:
    """Tell whether there is no clipping, as in the pure penalty: then nothing need be computed for it."""
    return all(isinstance(bound, float) and bound == math.inf for bound in bounds)


def _error(values: th.Tensor, returns: th.Tensor, loss: ValueLoss) -> th.Tensor:
    if loss == "huber":
        return F.huber_loss(values, returns, reduction="none")
    return (returns - values) ** 2


def _error_slope(values: th.Tensor, returns: th.Tensor, loss: ValueLoss) -> th.Tensor:
    difference = values - returns
    return difference.clamp(-1, 1) if loss == "huber" else 2 * difference

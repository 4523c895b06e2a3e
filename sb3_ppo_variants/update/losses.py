"""Surrogate objectives, value losses and advantage normalisation as pure functions of tensors, or of numpy's arrays.

Per-sample functions return shape (n_batch,); ``masked_mean`` reduces them, so that padded steps of recurrent
minibatches can be left out in one place. Coefficients may be floats or 0-dim tensors on the samples' device.
"""

import math
from typing import Literal

import torch as th
import torch.nn.functional as F

from sb3_ppo_variants.update.arrays import Array, as_floats, clip, library, mean, mean_and_std

Number = float | th.Tensor
ValueClipping = Literal["pessimistic", "sb3"]
ValueLoss = Literal["mse", "huber"]


def masked_mean(values: Array, mask: th.Tensor | None = None) -> Array:
    """Average the samples that count.

    :param values: shape (n_batch,)
    :param mask: bool, shape (n_batch,), True where the sample counts; None if all do
    :return: scalar
    """
    return mean(values if mask is None else values[mask])


def normalize_advantages(advantages: Array, mask: th.Tensor | None = None) -> Array:
    """Shift and scale one minibatch of advantages to mean 0 and standard deviation 1.

    A single sample is returned as it is: its standard deviation is not defined (SB3 issue #325).

    :param advantages: shape (n_batch,)
    :param mask: bool, shape (n_batch,), True where the sample counts towards mean and standard deviation
    :return: shape (n_batch,)
    """
    counted = advantages if mask is None else advantages[mask]
    if len(counted) == 1:
        return advantages
    average, deviation = mean_and_std(counted)
    return (advantages - average) / (deviation + 1e-8)


def capped_ratio(ratio: Array, cap: Number | None) -> Array:
    """Return ``r`` up to a cap c, beyond it ``c (1 + ln(r / c))``, which has the slope of ``c ln r``.

    A sample's gradient then has at most c times the weight that it has at r = 1, for either sign of the advantage: the
    truncated importance weights of V-trace (arXiv:1802.01561) and CISPO (arXiv:2506.13585).

    :param ratio: new over old action probability, shape (n_batch,)
    :param cap: c > 0; None for none
    :return: shape (n_batch,)
    """
    if cap is None or (not isinstance(ratio, th.Tensor) and ratio.max() <= cap):  # a tensor's number is waited for
        return ratio
    return ratio.clip(max=cap) * (1 + library(ratio).log((ratio / cap).clip(min=1)))


def surrogate_slopes(objective: Array, ratio: Array, advantages: Array, cap: Number | None) -> Array:
    """Differentiate :func:`clipped_surrogate` by the logarithm of the ratio.

    The clipped surrogate, asymmetric or dual, equals ``ratio * advantage`` or does not depend on the ratio.

    :param objective: what it returned, shape (n_batch,)
    :param ratio: as there
    :param advantages: as there
    :param cap: as there
    :return: shape (n_batch,)
    """
    capped = capped_ratio(ratio, cap)
    unclipped = advantages * capped
    weighted = unclipped if capped is ratio else advantages * ratio.clip(max=cap)
    return weighted * (objective == unclipped)


def clipped_surrogate(
    ratio: Array,
    advantages: Array,
    clip_low: Number,
    clip_high: Number,
    dual_clip: Number | None = None,
    ratio_cap: Number | None = None,
) -> Array:
    """Pessimistic clipped objective L_CLIP of each sample, to be maximised.

    ``min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)``; PPO paper (arXiv:1707.06347), eq. 7. Different values below
    and above give the asymmetric range of DAPO (arXiv:2503.14476). With ``dual_clip`` = c, samples of negative
    advantage are bounded from below by ``c A`` (arXiv:1912.09729, eq. 5).

    :param ratio: new over old action probability, shape (n_batch,)
    :param advantages: shape (n_batch,)
    :param clip_low: distance of the lower end of the range from 1
    :param clip_high: distance of the upper end of the range from 1
    :param dual_clip: bound c > 1; None for no bound
    :param ratio_cap: of ``capped_ratio``, which then stands for the ratio
    :return: shape (n_batch,)
    """
    xp = library(ratio)
    ratio = capped_ratio(ratio, ratio_cap)
    surrogate = advantages * ratio
    if not _unbounded(clip_low, clip_high):
        surrogate = xp.minimum(surrogate, advantages * clip(ratio, 1 - clip_low, 1 + clip_high))
    if dual_clip is not None:
        surrogate = xp.where(advantages < 0, xp.maximum(surrogate, dual_clip * advantages), surrogate)
    return surrogate


def outside_clip_range(ratio: Array, clip_low: Number, clip_high: Number) -> Array:
    """Mark the samples whose ratio lies outside the clip range; their share is the clip fraction.

    :param ratio: shape (n_batch,)
    :param clip_low: distance of the lower end of the range from 1
    :param clip_high: distance of the upper end of the range from 1
    :return: 0.0 or 1.0 per sample, shape (n_batch,)
    """
    if _unbounded(clip_low, clip_high):
        return library(ratio).zeros_like(ratio)
    distance = ratio - 1
    return as_floats((distance > clip_high) | (distance < -clip_low))


def value_errors(
    values: Array,
    old_values: Array,
    returns: Array,
    clip_range: Number | None = None,
    clipping: ValueClipping = "pessimistic",
    loss: ValueLoss = "mse",
) -> Array:
    """Value loss of each sample.

    With a ``clip_range`` the prediction may leave the old one by that much. ``"pessimistic"`` takes the larger of the
    clipped and the unclipped error (OpenAI baselines, ppo2/model.py). ``"sb3"`` takes the clipped error only
    (stable_baselines3/ppo/ppo.py): samples outside the range then have no gradient either way (SB3 issue #159).

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
    clipped = old_values + clip(values - old_values, -clip_range, clip_range)
    errors = _error(clipped, returns, loss)
    return library(values).maximum(_error(values, returns, loss), errors) if clipping == "pessimistic" else errors


def value_slopes(
    values: Array,
    old_values: Array,
    returns: Array,
    clip_range: Number | None = None,
    clipping: ValueClipping = "pessimistic",
    loss: ValueLoss = "mse",
) -> Array:
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
    xp, change = library(values), values - old_values
    clipped = old_values + clip(change, -clip_range, clip_range)
    of_clipped = xp.where(abs(change) > clip_range, xp.zeros_like(change), _error_slope(clipped, returns, loss))
    if clipping == "sb3":
        return of_clipped
    return xp.where(_error(values, returns, loss) >= _error(clipped, returns, loss), slopes, of_clipped)


def _unbounded(*bounds: Number) -> bool:
    """Tell whether there is no clipping, as in the pure penalty: then nothing need be computed for it."""
    return all(isinstance(bound, float) and bound == math.inf for bound in bounds)


def _error(values: Array, returns: Array, loss: ValueLoss) -> Array:
    if loss == "mse":
        return (returns - values) ** 2
    if isinstance(values, th.Tensor):
        return F.huber_loss(values, returns, reduction="none")
    distance = abs(values - returns)
    near = library(values).minimum(distance, 1)
    return near * (distance - 0.5 * near)


def _error_slope(values: Array, returns: Array, loss: ValueLoss) -> Array:
    difference = values - returns
    return clip(difference, -1, 1) if loss == "huber" else 2 * difference

"""Surrogates, value losses and advantage normalisation against hand-worked numbers and a second oracle."""

import math

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_ppo_variants.update.losses import (
    clipped_surrogate,
    masked_mean,
    normalize_advantages,
    outside_clip_range,
    value_errors,
)

SETTINGS = settings(max_examples=100, deadline=None, database=None)


def value_and_gradient(ratio: list[float], advantages: list[float], *args: float) -> tuple[list[float], list[float]]:
    """Surrogate of each sample and its derivative with respect to the ratio."""
    ratios = th.tensor(ratio, dtype=th.float64, requires_grad=True)
    surrogate = clipped_surrogate(ratios, th.tensor(advantages, dtype=th.float64), *args)
    (gradient,) = th.autograd.grad(surrogate.sum(), ratios)
    return surrogate.tolist(), gradient.tolist()


# ------------------------------------------------------------------------------------------------ clipped surrogate


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "expected_gradient"),
    [
        # range [0.75, 1.25]; samples that may still improve keep their gradient (= the advantage), others have none
        pytest.param(0.5, 2.0, 1.0, 2.0, id="below_positive"),
        pytest.param(1.125, 2.0, 2.25, 2.0, id="inside_positive"),
        pytest.param(1.5, 2.0, 2.5, 0.0, id="above_positive"),
        pytest.param(0.5, -2.0, -1.5, 0.0, id="below_negative"),
        pytest.param(1.125, -2.0, -2.25, -2.0, id="inside_negative"),
        pytest.param(1.5, -2.0, -3.0, -2.0, id="above_negative"),
        # old equals new, where every update starts
        pytest.param(1.0, 2.0, 2.0, 2.0, id="equal_positive"),
        pytest.param(1.0, -2.0, -2.0, -2.0, id="equal_negative"),
        pytest.param(4.0, 0.0, 0.0, 0.0, id="zero_advantage"),
    ],
)
def test_clipped_surrogate_equals_hand_worked_row(
    ratio: float, advantage: float, expected: float, expected_gradient: float
) -> None:
    values, gradients = value_and_gradient([ratio, 1.0], [advantage, 1.0], 0.25, 0.25)
    assert values == [expected, 1.0]
    assert gradients == [expected_gradient, 1.0]


def test_clipped_surrogate_with_asymmetric_range_clips_each_side_at_its_own_end() -> None:
    # range [0.75, 1.5]
    values, gradients = value_and_gradient([1.375, 2.0, 0.625, 0.5], [2.0, 2.0, -2.0, -4.0], 0.25, 0.5)
    assert values == [2.75, 3.0, -1.5, -3.0]
    assert gradients == [2.0, 0.0, 0.0, 0.0]
    # the same two ends swapped: range [0.5, 1.25]
    values, gradients = value_and_gradient([1.375, 2.0, 0.625, 0.25], [2.0, 2.0, -2.0, -4.0], 0.5, 0.25)
    assert values == [2.5, 2.5, -1.25, -2.0]
    assert gradients == [0.0, 0.0, -2.0, 0.0]


def test_clipped_surrogate_with_infinite_range_is_the_unclipped_one() -> None:
    values, gradients = value_and_gradient([0.01, 100.0, 1e6], [-2.0, 3.0, 0.5], math.inf, math.inf)
    assert values == [-0.02, 300.0, 5e5]
    assert gradients == [-2.0, 3.0, 0.5]


def test_dual_clip_bounds_negative_advantages_only() -> None:
    ratio, advantages = [2.0, 3.5, 5.0, 0.5, 5.0], [-2.0, -2.0, -2.0, -2.0, 2.0]
    values, gradients = value_and_gradient(ratio, advantages, 0.25, 0.25, 3.0)
    # -2 * 2 and -2 * 0.75 lie above the bound 3 * -2; -7 and -10 are raised to it; positive advantages are not touched
    assert values == [-4.0, -6.0, -6.0, -1.5, 2.5]
    assert gradients == [-2.0, 0.0, 0.0, 0.0, 0.0]
    # without it, large ratios of negative advantage run away
    values, gradients = value_and_gradient(ratio, advantages, 0.25, 0.25)
    assert values == [-4.0, -7.0, -10.0, -1.5, 2.5]
    assert gradients == [-2.0, -2.0, -2.0, 0.0, 0.0]


def test_coefficients_may_be_tensors_on_the_device() -> None:
    ratio, advantages = th.tensor([0.5, 1.5, 1.125]), th.tensor([-2.0, 2.0, 2.0])
    low, high = th.tensor(0.25), th.tensor(0.125)
    assert clipped_surrogate(ratio, advantages, low, high).tolist() == [-1.5, 2.25, 2.25]
    assert outside_clip_range(ratio, low, high).tolist() == [1.0, 1.0, 0.0]
    errors = value_errors(th.tensor([2.0, 0.25]), th.tensor([0.0, 0.0]), th.tensor([3.0, 1.0]), th.tensor(0.5))
    assert errors.tolist() == [6.25, 0.5625]


ratios_and_advantages = st.lists(st.tuples(st.floats(-1.5, 1.5), st.floats(-10, 10)), min_size=2, max_size=8)
clip_widths = st.floats(0.05, 0.9)


@SETTINGS
@given(samples=ratios_and_advantages, clip_low=clip_widths, clip_high=clip_widths)
def test_clipped_surrogate_gradient_equals_unclipped_plus_per_sample_kl_penalty(
    samples: list[tuple[float, float]], clip_low: float, clip_high: float
) -> None:
    """Second oracle: arXiv 2606.23932, Theorem 1, for the sampled KL.

    Signs: the objective ``r A - c k1`` is maximised, with ``k1 = log(old / new)`` of the sampled action, whose
    derivative with respect to the new log-probability is -1; so the penalty adds ``+c`` to the derivative ``r A`` of
    the first term, and the two cancel for ``c = -r A`` (where A > 0 that is a reward for k1, which falls as r grows).
    """
    log_ratio, advantages = (th.tensor(column, dtype=th.float64) for column in zip(*samples, strict=True))
    old_log_prob = -2 + 0.5 * advantages.sin()  # any constants
    new_log_prob = (old_log_prob + log_ratio).requires_grad_()

    ratio = th.exp(new_log_prob - old_log_prob)
    clipped = clipped_surrogate(ratio, advantages, clip_low, clip_high).sum()
    (gradient,) = th.autograd.grad(clipped, new_log_prob, retain_graph=True)

    r = ratio.detach()
    clipped_away = ((advantages > 0) & (r > 1 + clip_high)) | ((advantages < 0) & (r < 1 - clip_low))
    coefficient = th.where(clipped_away, -r * advantages, th.zeros_like(r))
    sampled_kl = old_log_prob - new_log_prob
    penalised = (ratio * advantages - coefficient * sampled_kl).sum()
    (expected,) = th.autograd.grad(penalised, new_log_prob)

    th.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@SETTINGS
@given(samples=ratios_and_advantages, clip_low=clip_widths, clip_high=clip_widths, dual_clip=st.floats(1.01, 5))
def test_clipped_surrogate_is_a_lower_bound_that_dual_clip_raises(
    samples: list[tuple[float, float]], clip_low: float, clip_high: float, dual_clip: float
) -> None:
    log_ratio, advantages = (th.tensor(column, dtype=th.float64) for column in zip(*samples, strict=True))
    ratio = log_ratio.exp()
    clipped = clipped_surrogate(ratio, advantages, clip_low, clip_high)
    dual = clipped_surrogate(ratio, advantages, clip_low, clip_high, dual_clip)
    assert (clipped <= ratio * advantages).all()
    assert (dual >= clipped).all()
    assert (dual >= dual_clip * advantages.abs().neg()).all()
    assert th.equal(dual[advantages >= 0], clipped[advantages >= 0])


# ------------------------------------------------------------------------------------------------------ clip range


def test_outside_clip_range_marks_both_sides_and_keeps_the_edges_inside() -> None:
    # range [0.75, 1.5]
    ratio = th.tensor([0.5, 0.75, 0.76, 1.0, 1.49, 1.5, 1.51, 9.0])
    assert outside_clip_range(ratio, 0.25, 0.5).tolist() == [1, 0, 0, 0, 0, 0, 1, 1]


def test_outside_clip_range_with_infinite_range_marks_none() -> None:
    assert outside_clip_range(th.tensor([1e-30, 1e30]), math.inf, math.inf).tolist() == [0, 0]


# ---------------------------------------------------------------------------------------------------- value losses

# prediction 2 for a return of 3, 2 for -1, 0.25 for 1, -2 for -3; the rollout's predictions were all 0
VALUES = [2.0, 2.0, 0.25, -2.0]
RETURNS = [3.0, -1.0, 1.0, -3.0]


@pytest.mark.parametrize(
    ("clip_range", "clipping", "loss", "expected", "expected_gradient"),
    [
        pytest.param(None, "pessimistic", "mse", [1, 9, 0.5625, 1], [-2, 6, -1.5, 2], id="mse"),
        # delta = 1: quadratic up to an error of 1, then |error| - 1/2
        pytest.param(None, "pessimistic", "huber", [0.5, 2.5, 0.28125, 0.5], [-1, 1, -0.75, 1], id="huber"),
        # clipped predictions 0.5, 0.5, 0.25, -0.5 with errors 2.5, 1.5, 0.75, 2.5
        pytest.param(0.5, "sb3", "mse", [6.25, 2.25, 0.5625, 6.25], [0, 0, -1.5, 0], id="sb3_mse"),
        pytest.param(0.5, "sb3", "huber", [2.0, 1.0, 0.28125, 2.0], [0, 0, -0.75, 0], id="sb3_huber"),
        # the larger error of the two: a prediction that ran away from the return (row 2) is pulled back
        pytest.param(0.5, "pessimistic", "mse", [6.25, 9, 0.5625, 6.25], [0, 6, -1.5, 0], id="pessimistic_mse"),
        pytest.param(0.5, "pessimistic", "huber", [2.0, 2.5, 0.28125, 2.0], [0, 1, -0.75, 0], id="pessimistic_huber"),
    ],
)
def test_value_errors_equal_hand_worked_numbers(
    clip_range: float | None, clipping: str, loss: str, expected: list[float], expected_gradient: list[float]
) -> None:
    values = th.tensor(VALUES, dtype=th.float64, requires_grad=True)
    returns = th.tensor(RETURNS, dtype=th.float64)
    errors = value_errors(values, th.zeros_like(returns), returns, clip_range, clipping, loss)  # type: ignore[arg-type]
    (gradient,) = th.autograd.grad(errors.sum(), values)
    assert errors.tolist() == expected
    assert gradient.tolist() == expected_gradient


def test_value_errors_clip_the_distance_from_the_old_prediction() -> None:
    # old 10 and -10 may move to 10.5 and -10.5; the third stays within
    values, old, returns = (
        th.tensor([12.0, -12.0, 10.25]),
        th.tensor([10.0, -10.0, 10.0]),
        th.tensor([12.0, -12.0, 8.0]),
    )
    assert value_errors(values, old, returns, 0.5, "sb3").tolist() == [2.25, 2.25, 5.0625]
    assert value_errors(values, old, returns, 0.5).tolist() == [2.25, 2.25, 5.0625]
    assert value_errors(values, old, returns).tolist() == [0.0, 0.0, 5.0625]


def test_value_errors_default_to_the_pessimistic_form() -> None:
    values, old, returns = th.tensor([2.0, -2.0]), th.zeros(2), th.tensor([-1.0, 1.0])
    assert value_errors(values, old, returns, 0.5).tolist() == [9.0, 9.0]


# -------------------------------------------------------------------------------------- masked mean, normalisation


def test_masked_mean_averages_all_samples_without_mask() -> None:
    assert masked_mean(th.tensor([1.0, 2.0, 6.0])).item() == 3.0


def test_masked_mean_leaves_out_padded_samples_and_their_gradient() -> None:
    values = th.tensor([1.0, 100.0, 2.0, math.nan, 6.0], requires_grad=True)
    mean = masked_mean(values, th.tensor([True, False, True, False, True]))
    mean.backward()
    assert mean.item() == 3.0
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3])


def test_normalized_advantages_equal_hand_worked_numbers() -> None:
    # mean 3, standard deviation of the sample (n - 1) = 2
    assert normalize_advantages(th.tensor([1.0, 3.0, 5.0])).tolist() == pytest.approx([-1.0, 0.0, 1.0])
    # mean 0, variance (9 + 9 + 9 + 9) / 3
    assert normalize_advantages(th.tensor([3.0, 3.0, -3.0, -3.0])).tolist() == pytest.approx(
        [math.sqrt(3) / 2] * 2 + [-math.sqrt(3) / 2] * 2
    )


def test_normalized_advantages_take_their_statistics_from_masked_samples_only() -> None:
    advantages = th.tensor([1.0, 1000.0, 3.0, -7.0, 5.0])
    mask = th.tensor([True, False, True, False, True])
    assert normalize_advantages(advantages, mask)[mask].tolist() == pytest.approx([-1.0, 0.0, 1.0])


def test_normalized_advantages_of_a_full_mask_equal_those_of_none() -> None:
    advantages = th.tensor([0.3, -1.7, 2.9, 11.0])
    assert th.equal(normalize_advantages(advantages, th.ones(4, dtype=th.bool)), normalize_advantages(advantages))


def test_normalizing_one_advantage_returns_it_as_it_is() -> None:
    assert normalize_advantages(th.tensor([4.0])).tolist() == [4.0]


def test_normalizing_one_counted_advantage_among_padding_returns_it_as_it_is() -> None:
    assert normalize_advantages(th.tensor([4.0, 1.0]), th.tensor([True, False]))[0].item() == 4.0


def test_normalizing_constant_advantages_gives_zeros() -> None:
    assert normalize_advantages(th.tensor([4.0, 4.0, 4.0])).tolist() == [0.0, 0.0, 0.0]


@SETTINGS
@given(
    values=st.lists(st.floats(-100, 100), min_size=3, max_size=12),
    scale=st.floats(0.1, 100),
    shift=st.floats(-100, 100),
)
def test_normalized_advantages_do_not_depend_on_scale_and_shift(
    values: list[float], scale: float, shift: float
) -> None:
    advantages = th.tensor([*values, 200.0], dtype=th.float64)  # the last one keeps the deviation away from 0
    normalized = normalize_advantages(advantages)
    assert normalized.mean().item() == pytest.approx(0, abs=1e-9)
    assert normalized.std().item() == pytest.approx(1, abs=1e-6)
    th.testing.assert_close(normalize_advantages(scale * advantages + shift), normalized, rtol=1e-6, atol=1e-6)

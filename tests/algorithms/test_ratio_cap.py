"""A cap on the weight of single ratios: what it is, and that every path computes it."""

import math
from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import build, flat

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.update.losses import capped_ratio, clipped_surrogate, surrogate_slopes

RATIOS = [0.0, 1e-30, 0.5, 1.0, 1.999, 2.001, 5.0, 300.0]


def test_a_ratio_is_itself_up_to_the_cap_to_the_last_bit() -> None:
    ratio = th.linspace(0, 2, 1001)
    assert th.equal(capped_ratio(ratio, 2.0), ratio)
    assert np.array_equal(capped_ratio(ratio.numpy(), 2.0), ratio.numpy())
    assert capped_ratio(th.tensor(8.0), 2.0).item() == pytest.approx(2 * (1 + math.log(4)))


def test_no_sample_s_gradient_has_more_than_the_cap_s_weight() -> None:
    """For either sign of the advantage: the clip bounds one of them only."""
    log_ratio = th.tensor(RATIOS[1:]).log().requires_grad_()
    for sign in (1.0, -1.0):
        (slope,) = th.autograd.grad((sign * capped_ratio(log_ratio.exp(), 2.0)).sum(), log_ratio)
        th.testing.assert_close(slope, sign * log_ratio.exp().clamp(max=2.0).detach())


@pytest.mark.parametrize("bounds", [(math.inf, math.inf, None), (0.2, 0.2, None), (0.2, 3.0, None), (0.2, 0.3, 4.0)])
@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_the_written_slope_is_autograd_s(bounds: Any, kind: str) -> None:
    log_ratio = th.tensor([-3.1, -0.4, 0.1, 0.63, 0.9, 2.2, 5.0] * 2).requires_grad_()
    advantages = th.tensor([1.3] * 7 + [-0.7] * 7)
    (expected,) = th.autograd.grad(clipped_surrogate(log_ratio.exp(), advantages, *bounds, 2.0).sum(), log_ratio)
    ratio: Any = log_ratio.exp().detach()
    given: Any = advantages
    if kind == "arrays":
        ratio, given = ratio.numpy(), advantages.numpy()
    found = surrogate_slopes(clipped_surrogate(ratio, given, *bounds, 2.0), ratio, given, 2.0)
    th.testing.assert_close(th.as_tensor(found), expected)


@pytest.mark.parametrize("acceleration", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
def test_all_paths_cap(acceleration: str) -> None:
    arguments: dict[str, Any] = {"learning_rate": 0.03, "ratio_cap": 1.05, "max_kl": None, "n_steps": 32, "n_epochs": 3}
    steps = 32 * 2  # one update
    found = [
        flat(build(PPOPenalty, "box", acceleration=path, **arguments).learn(steps)) for path in ("off", acceleration)
    ]
    free = build(PPOPenalty, "box", acceleration="off", **(arguments | {"ratio_cap": None})).learn(steps)
    th.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)
    assert free.last_update.column("ratio_max").max() > 1.05
    assert not th.allclose(flat(free), found[0], atol=1e-3)


def test_a_cap_of_one_or_less_is_refused() -> None:
    with pytest.raises(ValueError, match="`ratio_cap` must be > 1 and finite, got 1.0; pass None for no cap"):
        build(PPOPenalty, ratio_cap=1.0)

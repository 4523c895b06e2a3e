"""The lean buffer computes what SB3's own does, bit for bit, and leaves it as it was."""

import copy
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.fast_path.lean_buffer import lean_add, lean_advantages, lean_buffer


def filled_buffer(n_steps: int, n_envs: int, seed: int = 0, **kwargs: Any) -> RolloutBuffer:
    """Fill a buffer with random transitions, episode starts among them."""
    rng = np.random.default_rng(seed)
    space = spaces.Box(-1, 1, (3,))
    buffer = RolloutBuffer(n_steps, space, spaces.Box(-1, 1, (2,)), "cpu", n_envs=n_envs, **kwargs)
    for _ in range(n_steps):
        buffer.add(
            rng.standard_normal((n_envs, 3)).astype(np.float32),
            rng.standard_normal((n_envs, 2)).astype(np.float32),
            rng.standard_normal(n_envs) * 10,
            rng.random(n_envs) < 0.2,
            th.as_tensor(rng.standard_normal((n_envs, 1)), dtype=th.float32),
            th.as_tensor(rng.standard_normal(n_envs), dtype=th.float32),
        )
    return buffer


@pytest.mark.parametrize(("n_steps", "n_envs"), [(1, 1), (2, 1), (128, 1), (64, 5)])
@pytest.mark.parametrize(
    "kwargs",
    [
        {"gamma": 0.99, "gae_lambda": 0.95},
        {"gamma": 1.0, "gae_lambda": 1.0},
        {"gamma": 0.9, "gae_lambda": 0.0},
        {"gamma": np.float64(0.97), "gae_lambda": 0.9},
    ],
)
def test_advantages_equal_stock_bit_for_bit(n_steps: int, n_envs: int, kwargs: dict[str, Any]) -> None:
    stock = filled_buffer(n_steps, n_envs, **kwargs)
    lean = copy.deepcopy(stock)
    last_values = th.linspace(-1, 1, n_envs).unsqueeze(1)
    dones = np.arange(n_envs) % 2 == 1
    stock.compute_returns_and_advantage(last_values, dones)
    lean_advantages(lean, last_values, dones)
    np.testing.assert_array_equal(lean.advantages, stock.advantages)
    np.testing.assert_array_equal(lean.returns, stock.returns)
    assert lean.returns.dtype == stock.returns.dtype


def test_nan_in_a_reward_reaches_the_advantages_as_in_stock() -> None:
    stock = filled_buffer(16, 2)
    stock.rewards[7, 1] = np.nan
    lean = copy.deepcopy(stock)
    last_values = th.zeros(2, 1)
    stock.compute_returns_and_advantage(last_values, np.zeros(2))
    lean_advantages(lean, last_values, np.zeros(2))
    assert np.isnan(stock.advantages).any()
    np.testing.assert_array_equal(lean.advantages, stock.advantages)


class OwnReturns(RolloutBuffer):
    def compute_returns_and_advantage(self, last_values: th.Tensor, dones: np.ndarray) -> None:
        self.returns = np.full_like(self.values, 7.0)


def test_only_stock_methods_are_replaced_and_all_are_put_back() -> None:
    buffer = filled_buffer(4, 2)
    with lean_buffer(buffer):
        assert buffer.add.func is lean_add  # type: ignore[attr-defined]  # a partial
        assert buffer.compute_returns_and_advantage.func is lean_advantages  # type: ignore[attr-defined]  # likewise
    assert not {"add", "compute_returns_and_advantage"} & set(vars(buffer))

    own = OwnReturns(4, spaces.Box(-1, 1, (3,)), spaces.Discrete(2), "cpu", n_envs=2)
    with lean_buffer(own):
        own.compute_returns_and_advantage(th.zeros(2, 1), np.zeros(2))
    assert (own.returns == 7).all()

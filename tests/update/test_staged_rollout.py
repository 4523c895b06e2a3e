"""Minibatches of a staged rollout are the buffer's own, images channels last in memory."""

import copy
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from hosts import collect_rollout

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.update.minibatches import StagedRollout


def fields(minibatch: Any) -> list[th.Tensor]:
    parts = [list(f.values()) if isinstance(f, dict) else [f] for f in minibatch]
    return [tensor for part in parts for tensor in part]


@pytest.mark.parametrize("observation", ["vector", "image", "dict"])
def test_minibatches_are_the_buffers_own(observation: str) -> None:
    policy = {"vector": "MlpPolicy", "image": "CnnPolicy", "dict": "MultiInputPolicy"}[observation]
    model = PPOClip(policy, make_vec_env("box", observation), n_steps=16, batch_size=10, seed=0, device="cpu")
    collect_rollout(model)
    own = copy.deepcopy(model.rollout_buffer)
    staged = StagedRollout(model.rollout_buffer, model.action_space, 10)
    np.random.seed(3)
    minibatches = [staged.select(rows) for rows in staged.shuffled_rows().split(10)]
    np.random.seed(3)
    for ours, expected in zip(minibatches, own.get(10), strict=True):
        for tensor, other in zip(fields(ours), fields(expected), strict=True):
            assert tensor.shape == other.shape
            assert th.equal(tensor.to(other.dtype), other)
            if tensor.dim() == 4:
                assert tensor.dtype == th.uint8  # a quarter of float32's memory
                assert tensor.is_contiguous(memory_format=th.channels_last)

"""The fast path rounds no worse than stock: both are compared with the same update in float64."""

from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import build, collect_rollout, flat

from sb3_ppo_variants import PPOClip, PPOPenalty

ARGUMENTS = {"n_steps": 128, "batch_size": 64, "n_epochs": 5, "policy_kwargs": {"net_arch": [64, 64]}}


def updated(cls: type[Any], action: str, acceleration: str, seed: int, precise: bool = False) -> np.ndarray:
    """Collect the same rollout on every path, update once, and return the weights in float64.

    :param precise: do the update in float64
    """
    model = build(cls, action, acceleration="off", seed=seed, max_kl=None, **ARGUMENTS)
    collect_rollout(model)
    if precise:
        model.policy.double()
        model.policy.features_extractor.register_forward_hook(lambda module, inputs, output: output.double())
        model.rollout_buffer.to_torch = lambda array, copy=True: th.as_tensor(array, dtype=th.float64)
    model.acceleration = acceleration
    np.random.seed(seed)
    model.train()
    weights: np.ndarray = flat(model).double().numpy()
    return weights


@pytest.mark.parametrize("action", ["discrete", "box"])
@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty])
def test_eager_is_as_near_to_float64_as_the_reference_path(cls: type[Any], action: str) -> None:
    errors: dict[str, list[float]] = {"off": [], "eager": []}
    for seed in range(5):
        exact = updated(cls, action, "off", seed, precise=True)
        for acceleration, found in errors.items():
            found.append(float(np.linalg.norm(updated(cls, action, acceleration, seed) - exact)))
    off, eager = (float(np.median(found)) for found in errors.values())
    assert 0 < off < 1e-3  # float64 took the same steps, and is not what the reference path computed
    assert eager < 2 * off

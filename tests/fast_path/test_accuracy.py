"""The fast path rounds no worse than stock: both are compared with the same update in float64."""

from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import build, collect_rollout, flat

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.fast_path.flat_parameters import FlatAdam

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


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
@pytest.mark.parametrize("steps", [1, 2, 1000, 10_000_000])
def test_a_graph_corrects_adams_moments_as_accurately_as_torch(steps: int, betas: tuple[float, float]) -> None:
    optimizer_kwargs = {"betas": betas}
    model = PPOClip("MlpPolicy", "CartPole-v1", policy_kwargs={"optimizer_kwargs": optimizer_kwargs}, device="cpu")
    adam = FlatAdam(model.policy)
    adam.step_count.fill_(steps)
    corrections = [float(correction) for correction in adam.bias_corrections()]
    assert corrections == pytest.approx([1 - beta**steps for beta in betas], rel=2e-7)

"""An extractor in bfloat16: what changes, what stays float32, and that all paths agree."""

from typing import Any

import pytest
import torch as th
from environments import make_vec_env
from hosts import build, flat
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import NatureCNN

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.extractors import BFloat16CNN
from sb3_ppo_variants.fast_path.compiler import most_apart

KWARGS: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}


def model_of(cls: type[Any], extractor: type[Any] = BFloat16CNN, **kwargs: Any) -> Any:
    features = {"features_extractor_class": extractor, "features_extractor_kwargs": {"features_dim": 32}}
    policy_kwargs = {**features, "net_arch": []}
    return cls("CnnPolicy", make_vec_env("discrete", "image"), policy_kwargs=policy_kwargs, **{**KWARGS, **kwargs})


def test_products_are_rounded_to_bfloat16_and_all_else_is_float32() -> None:
    rounded, exact = model_of(PPO), model_of(PPO, NatureCNN)
    assert th.equal(flat(rounded), flat(exact))
    observations, _ = rounded.policy.obs_to_tensor(rounded.env.reset())
    features, expected = (m.policy.extract_features(observations) for m in (rounded, exact))
    error = ((features - expected).abs().max() / expected.abs().max()).item()
    assert features.dtype == th.float32
    assert 1e-5 < error < 2e-2
    assert {p.dtype for p in rounded.policy.parameters()} == {th.float32}
    assert all(tensor.dtype == th.float32 for tensor in rounded.policy(observations)[1:])


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty])
@pytest.mark.parametrize("acceleration", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
def test_fast_paths_agree_with_the_reference(cls: type[Any], acceleration: str) -> None:
    reference, fast = (model_of(cls, acceleration=how).learn(32) for how in ("off", acceleration))
    report = fast.acceleration_report()
    assert report["evaluation"] == "closed form"
    assert acceleration == "eager" or report["graph"] == "torch.compile"
    moved = (flat(reference) - flat(model_of(cls))).abs().max()
    assert (flat(reference) - flat(fast)).abs().max() < 0.1 * moved  # bfloat16 rounds elsewhere in a compiled graph


def test_off_equals_stock_to_the_last_bit() -> None:
    assert th.equal(flat(model_of(PPO).learn(32)), flat(model_of(PPOClip, acceleration="off").learn(32)))


def test_it_is_saved_and_loaded(tmp_path: Any) -> None:
    model = model_of(PPOPenalty).learn(16)
    model.save(tmp_path / "model")
    loaded = PPOPenalty.load(tmp_path / "model", device="cpu")
    assert type(loaded.policy.features_extractor) is BFloat16CNN
    assert th.equal(flat(model), flat(loaded))


class SomebodysCNN(NatureCNN):
    """Of which nothing is known."""


@pytest.mark.parametrize(
    ("extractor", "on_cpu", "elsewhere"),
    [(NatureCNN, 1e-3, 1e-1), (BFloat16CNN, 1e-1, 1e-1), (SomebodysCNN, 1e-2, 1e-1), (None, 1e-3, 1e-2)],
)
def test_a_graph_may_be_as_far_apart_as_the_numbers_are_rounded(
    extractor: type[Any] | None, on_cpu: float, elsewhere: float
) -> None:
    """Convolutions elsewhere than on a CPU are in TF32, unless the user has switched that off."""
    model = build(PPOClip) if extractor is None else model_of(PPOClip, extractor)
    assert most_apart(model.policy) == on_cpu
    assert most_apart(model.policy.to("meta")) == elsewhere

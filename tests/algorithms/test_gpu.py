"""What must hold on a GPU, beside what tests/fast_path/test_acceleration.py asks of the fast path there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from hosts import all_classes, build, collect_rollout, flat, host_of

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume
from sb3_ppo_variants.extractors import BFloat16CNN

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(th.backends.cudnn, "allow_tf32", False)


def collected(cls: type[Any], **arguments: Any) -> Any:
    """Return a model with a rollout of the ordinary forward pass, the same at every call."""
    model = build(cls, device=DEVICE, **{**arguments, "acceleration": "off"})
    collect_rollout(model)
    model.acceleration = arguments.get("acceleration", "eager")
    return model


@all_classes
@pytest.mark.parametrize("observation", ["vector", "image"])
def test_eager_agrees_with_the_reference(cls: type[Any], observation: str) -> None:
    reference, fast = (collected(cls, observation=observation, acceleration=how) for how in ("off", "eager"))
    before = flat(reference)
    assert th.equal(before, flat(fast))
    for model in (reference, fast):
        np.random.seed(0)
        model.train()
    moved = (flat(reference) - before).abs().max()
    assert (flat(fast) - flat(reference)).abs().max() < 2e-3 * moved


@all_classes
def test_training_on_a_gpu_moves_the_policy_and_keeps_it_finite(cls: type[Any]) -> None:
    model = build(cls, device=DEVICE)
    before = flat(model)
    model.learn(200)
    assert th.isfinite(flat(model)).all()
    assert not th.equal(before, flat(model))
    assert model.policy.device.type == DEVICE


def test_off_equals_stock_to_the_last_bit() -> None:
    ours = build(PPOClip, device=DEVICE, acceleration="off", value_clipping="sb3")
    assert th.equal(flat(ours.learn(200)), flat(build(host_of(PPOClip).stock, device=DEVICE).learn(200)))


@pytest.mark.parametrize("acceleration", ["eager", "compile"])
def test_a_minibatch_with_nan_is_skipped_without_harm(acceleration: str) -> None:
    model = collected(PPOClip, acceleration=acceleration, on_nonfinite="skip", normalize_advantage=False)
    model.rollout_buffer.advantages[0, 0] = np.nan
    before = flat(model)
    model.train()
    assert model.logger.name_to_value["train/skipped_minibatches"] == model.n_epochs
    assert th.isfinite(flat(model)).all()
    assert not th.equal(before, flat(model))


@pytest.mark.parametrize("acceleration", ["off", "eager", "compile"])
def test_no_update_passes_max_kl(acceleration: str) -> None:
    model = build(PPOPenalty, "box", device=DEVICE, acceleration=acceleration, learning_rate=0.05, target_kl=0.01)
    kls, shares = [], []
    for _ in range(4):
        model.learn(50, reset_num_timesteps=False)
        kls.append(model.last_update.kl_divergence)
        shares.append(model.logger.name_to_value["train/projection"])
    assert max(kls) <= 0.01
    assert min(shares) < 1


def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = build(PPOPenalty, device=DEVICE).learn(400)
    writer = ResumableCheckpointCallback(1, tmp_path)
    build(PPOPenalty, device=DEVICE).learn(200, callback=writer)
    resumed = resume(tmp_path, make_vec_env(), total_timesteps=400, device=DEVICE)
    assert resumed.num_timesteps == whole.num_timesteps
    assert resumed.beta == pytest.approx(whole.beta)
    np.testing.assert_allclose(flat(resumed), flat(whole), rtol=1e-4, atol=1e-5)


def test_a_model_saved_on_a_gpu_runs_on_the_cpu(tmp_path: Path) -> None:
    build(PPOPenalty, device=DEVICE).learn(100).save(tmp_path / "model")
    model = PPOPenalty.load(tmp_path / "model", env=make_vec_env(), device="cpu")
    assert model.learn(100).acceleration_report()["arithmetic"] == "numpy"


@pytest.mark.parametrize("acceleration", ["eager", "compile"])
def test_bfloat16_images_train(acceleration: str) -> None:
    kwargs = {"features_extractor_class": BFloat16CNN}
    model = build(PPOClip, observation="image", device=DEVICE, acceleration=acceleration, policy_kwargs=kwargs)
    before = flat(model)
    assert th.isfinite(flat(model.learn(100))).all()
    assert not th.equal(before, flat(model))
    report = model.acceleration_report()
    assert report["evaluation"] == "closed form"
    assert acceleration == "eager" or report["graph"] == "torch.compile"

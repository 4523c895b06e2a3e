"""What must hold on a GPU, beside what tests/fast_path/test_acceleration.py asks of the fast path there."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
import torch.distributed as dist
from environments import make_vec_env
from hosts import VARIANTS, ModeSensitiveExtractor, all_classes, build, collect_rollout, flat, host_of
from launching import launched
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants import MaskablePPOClip, PPOClip, PPOPenalty
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume
from sb3_ppo_variants.distributed import ranks
from sb3_ppo_variants.distributed.ranks import JoinedRanks
from sb3_ppo_variants.extractors import BFloat16CNN
from sb3_ppo_variants.fast_path.lean_rollout import LeanForward
from sb3_ppo_variants.fast_path.recorded_forward import RecordedForward

DEVICE = "cuda"
KINDS = ["PPOClip, box", "PPOClip, multi_binary", "PPOClip, multi_discrete", "MaskablePPOClip, discrete"]
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


def test_the_exchanges_of_ranks_go_over_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of one, which is what nccl can do on a single GPU."""
    arguments = {"device": DEVICE, "learning_rate": 0.01, "target_kl": 0.005}
    alone = build(PPOPenalty, "box", **arguments).learn(200)
    dist.init_process_group("cpu:gloo,cuda:nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        joined = JoinedRanks()
        numbers = [th.arange(3.0, device=DEVICE), th.ones(2, 2, device=DEVICE)]
        joined.mean_(*numbers)
        assert [tensor.sum().item() for tensor in numbers] == [3.0, 4.0]
        assert joined.stack(th.ones(2, device=DEVICE)).shape == (1, 2)
        monkeypatch.setattr(ranks, "_joined", joined)
        grouped = build(PPOPenalty, "box", **arguments).learn(200)
        assert grouped.ranks is joined
    finally:
        dist.destroy_process_group()
    np.testing.assert_allclose(flat(grouped), flat(alone), rtol=1e-4, atol=1e-5)
    assert grouped.beta == pytest.approx(alone.beta)


def test_two_ranks_share_a_gpu() -> None:
    ended = launched("gpu_ranks.py")
    assert [process.status for process in ended] == [0, 0], ended[0].errors + ended[1].errors
    assert ended[0].output == ended[1].output
    lines = ended[0].output.splitlines()
    assert [line.split()[:2] for line in lines] == [["off", "2"], ["eager", "2"], ["compile", "2"]]
    assert all(float(line.split()[2]) <= 0.005 for line in lines)


@pytest.mark.parametrize("observation", ["vector", "image", "dict"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_forward_pass_draws_as_kernel_by_kernel(
    kind: str, observation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, action = kind.split(", ")
    rollouts, replays = [], []
    replay = th.cuda.CUDAGraph.replay
    monkeypatch.setattr(th.cuda.CUDAGraph, "replay", lambda graph: replays.append(graph) or replay(graph))
    for acceleration in ("off", "eager"):
        model = build(VARIANTS[name], action, observation, device=DEVICE, acceleration=acceleration)
        collect_rollout(model)
        rollouts.append(model.rollout_buffer)
    assert model.acceleration_report()["recording"] == "forward pass as a CUDA graph"
    assert len(replays) == model.n_steps + 1  # and the check on the first data
    for what in ("actions", "values", "log_probs", "rewards"):
        np.testing.assert_allclose(getattr(rollouts[1], what), getattr(rollouts[0], what), rtol=1e-4, atol=1e-5)


class Cycle:
    """Garbage that only Python's collector finds."""

    def __init__(self, content: Any):
        self.content, self.itself = content, self


def during_recordings(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen whenever a forward pass is recorded."""
    sample = LeanForward.sample

    def observed(forward: Any, *given: Any) -> Any:
        if th.cuda.is_current_stream_capturing():
            happens()
        return sample(forward, *given)

    monkeypatch.setattr(LeanForward, "sample", observed)


def test_another_model_s_graph_is_not_destroyed_during_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = th.cuda.CUDAGraph()
    with th.cuda.graph(earlier):
        th.zeros(1, device=DEVICE)
    graphs = [earlier]
    del earlier

    def collected_if_enabled() -> None:
        if gc.isenabled():
            Cycle(graphs.pop())
            gc.collect()

    during_recordings(monkeypatch, collected_if_enabled)
    model = build(PPOClip, device=DEVICE).learn(100)
    assert model.acceleration_report()["recording"] == "forward pass as a CUDA graph"
    assert gc.isenabled()
    assert graphs


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_recording_that_breaks_off_costs_only_the_recording(fails_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first check, or in the middle of the first rollout."""
    off = build(MaskablePPOClip, device=DEVICE, acceleration="off").learn(100)
    recordings: list[int] = []

    def broken_off() -> None:
        recordings.append(1)
        if len(recordings) == fails_at:
            th.zeros(1, device=DEVICE).item()  # waits for the device, which no recording allows

    during_recordings(monkeypatch, broken_off)
    model = build(MaskablePPOClip, device=DEVICE)
    if fails_at == 2:  # recorded once with a check's masks: forget it
        record = RecordedForward.sample

        def anew(forward: Any, *given: Any) -> Any:
            if recordings == [1]:
                forward._graph = None
            return record(forward, *given)

        monkeypatch.setattr(RecordedForward, "sample", anew)
    with pytest.warns(UserWarning, match="recording of the fast path falls back to the ordinary code"):
        model.learn(100)
    assert len(recordings) == fails_at
    assert "kernel by kernel" in model.acceleration_report()["recording"]
    assert model.acceleration_report()["sampling"] == "closed form"
    np.testing.assert_allclose(flat(model), flat(off), rtol=1e-3, atol=1e-4)
    th.rand(1, device=DEVICE)


def test_models_that_have_a_recording_go_on_after_one_that_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(PPOClip, device=DEVICE).learn(100)
    during_recordings(monkeypatch, lambda: th.zeros(1, device=DEVICE).item())
    with pytest.warns(UserWarning, match="recording of the fast path falls back"):
        build(PPOPenalty, device=DEVICE).learn(100)
    draws = []
    for _ in range(2):
        th.manual_seed(3)
        with th.no_grad():
            draws.append(first._acceleration._forward.sample(th.zeros(2, 4, device=DEVICE), None)[0])
    assert th.equal(*draws)
    first.learn(100)
    assert first.acceleration_report()["recording"] == "forward pass as a CUDA graph"


def test_nan_in_the_choices_of_a_policy_leaves_the_gpu_usable() -> None:
    model = build(PPOClip, "multi_binary", device=DEVICE)
    with th.no_grad():
        model.policy.action_net.bias.fill_(th.nan)
    with pytest.raises(ValueError, match="(?i)nan|finite"):
        model.learn(100)
    assert th.ones(1, device=DEVICE).item() == 1


def test_layers_that_have_memory_in_common_keep_it() -> None:
    model = build(PPOClip, device=DEVICE)
    networks = model.policy.mlp_extractor
    networks.value_net[0].weight.data = networks.policy_net[0].weight.data
    model.learn(100)
    assert th.equal(networks.value_net[0].weight, networks.policy_net[0].weight)
    assert "shares" in model.acceleration_report()["optimizer"]


class EditsThePolicy(BaseCallback):
    """In the middle of a rollout: weights in place, then a whole layer, then the observations of one environment."""

    def _on_step(self) -> bool:
        policy: Any = self.model.policy
        if self.n_calls == 5:
            with th.no_grad():
                policy.action_net.bias += 1.0
        if self.n_calls == 10:
            th.manual_seed(1)
            policy.value_net = th.nn.Linear(8, 1).to(DEVICE)
        if self.n_calls == 15:
            with th.no_grad():
                self.alone = policy(th.zeros(1, 4, device=DEVICE))[1].item()
        return True


def test_edits_in_the_middle_of_a_rollout_act_at_once() -> None:
    rollouts, callbacks = [], []
    for acceleration in ("off", "eager"):
        model = build(PPOClip, device=DEVICE, acceleration=acceleration)
        _, callback = model._setup_learn(10_000, EditsThePolicy())
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        rollouts.append(model.rollout_buffer)
        callbacks.append(callback)
    for name in ("actions", "values", "log_probs"):
        np.testing.assert_allclose(getattr(rollouts[1], name), getattr(rollouts[0], name), rtol=1e-4, atol=1e-5)
    assert callbacks[0].alone == pytest.approx(callbacks[1].alone)


def test_what_callbacks_keep_of_a_step_stays_as_it_was() -> None:
    kept: list[th.Tensor] = []

    class Keeps(BaseCallback):
        def _on_step(self) -> bool:
            kept.append(self.locals["values"])
            return True

    model = build(PPOClip, device=DEVICE)
    _, callback = model._setup_learn(10_000, Keeps())
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    assert len(kept) == model.n_steps
    assert all(values.is_cuda for values in kept)
    np.testing.assert_array_equal(th.stack(kept).squeeze(-1).cpu(), model.rollout_buffer.values)


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("gSDE", {"use_sde": True, "sde_sample_freq": 4}),
        ("somebody's own", {"policy_kwargs": {"features_extractor_class": ModeSensitiveExtractor}}),
        ("acceleration='off'", {"acceleration": "off"}),
    ],
)
def test_what_is_not_recorded_trains_kernel_by_kernel(reason: str, arguments: dict[str, Any]) -> None:
    model = build(PPOPenalty, "box", device=DEVICE, **arguments).learn(100)
    said = model.acceleration_report()["recording"]
    assert said.startswith("kernel by kernel (")
    assert reason in said
    assert reason == "acceleration='off'" or model.acceleration_report()["sampling"] == "closed form"

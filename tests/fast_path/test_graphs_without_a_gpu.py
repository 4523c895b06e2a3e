"""What of CUDA graphs can be tested without a GPU; the rest is in tests/algorithms/test_gpu.py."""

import gc
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import build, collect_rollout, flat
from torch.fx.experimental.proxy_tensor import make_fx

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.fast_path.compiled_update import CompiledStep
from sb3_ppo_variants.fast_path.compiler import easy_to_differentiate
from sb3_ppo_variants.fast_path.fingerprint import plain_attributes
from sb3_ppo_variants.fast_path.graph_recording import collection_paused
from sb3_ppo_variants.fast_path.recorded_forward import RecordedForward, _tensors
from sb3_ppo_variants.update.minibatches import staging_obstacle


@pytest.mark.parametrize(("n_inputs", "order"), [(4, "inputs.T @ gradient"), (64, "gradient.T @ inputs")])
def test_the_gradient_of_a_weight_with_few_inputs_is_computed_in_the_faster_order(n_inputs: int, order: str) -> None:
    def loss(weight: th.Tensor) -> th.Tensor:
        return th.nn.functional.linear(inputs, easy_to_differentiate(weight)).square().sum()

    inputs, weight = th.randn(256, n_inputs), th.randn(64, n_inputs)
    traced = make_fx(th.func.grad(loss))(weight)
    last = [node for node in traced.graph.nodes if node.target == th.ops.aten.mm.default][-1]
    assert last.meta["tensor_meta"].shape == ((n_inputs, 64) if order == "inputs.T @ gradient" else (64, n_inputs))
    plain = th.func.grad(lambda w: th.nn.functional.linear(inputs, w).square().sum())(weight)
    th.testing.assert_close(traced(weight), plain, rtol=1e-4, atol=1e-3)


def test_garbage_is_collected_again_after_a_recording() -> None:
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collection_that_the_user_has_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_entries_of_a_dictionary_go_to_a_recording_by_name() -> None:
    a, b, masks = th.zeros(1), th.ones(1), th.ones(2)
    assert [id(x) for x in _tensors({"b": b, "a": a}, masks)] == [id(x) for x in _tensors({"a": a, "b": b}, masks)]


def test_a_recording_is_made_anew_where_a_number_of_a_module_has_changed() -> None:
    model = build(PPOClip, policy_kwargs={"activation_fn": th.nn.LeakyReLU})
    forward = RecordedForward(model.policy)
    graph: Any = object()
    forward._graph, forward._recorded_with = graph, plain_attributes(model.policy)
    forward.put_in_place()
    assert forward._graph is graph
    model.policy.mlp_extractor.policy_net[1].negative_slope = 0.5
    forward.put_in_place()
    assert forward._graph is None


def test_a_graph_that_is_warmed_up_recorded_and_replayed_is_compared_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made, agrees, calls = CompiledStep.__init__, CompiledStep.agrees, []

    def as_on_a_gpu(step: CompiledStep, *given: Any) -> None:
        made(step, *given)
        step._agreements_needed = 3

    def counted(step: CompiledStep, momentum: th.Tensor) -> bool:
        calls.append(agrees(step, momentum))
        return calls[-1]

    monkeypatch.setattr(CompiledStep, "__init__", as_on_a_gpu)
    monkeypatch.setattr(CompiledStep, "agrees", counted)
    weights = []
    for acceleration in ("eager", "compile"):
        model = build(PPOClip, n_epochs=5, acceleration=acceleration)
        collect_rollout(model)
        model.train()
        weights.append(flat(model))
    assert calls == [True] * 3
    assert model.acceleration_report()["graph"] == "torch.compile"
    th.testing.assert_close(*weights, rtol=1e-4, atol=2e-5)


def test_a_rollout_that_would_fill_a_gpu_is_not_staged(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = build(PPOClip, observation="dict").rollout_buffer
    arrays = [x for value in vars(buffer).values() for x in (value.values() if isinstance(value, dict) else [value])]
    size = sum(x.nbytes for x in arrays if isinstance(x, np.ndarray))
    buffer.device = th.device("cuda")
    for memory, said in ((2 * size + 2, None), (2 * size - 2, "the rollout takes more than half of the GPU's memory")):
        monkeypatch.setattr(th.cuda, "get_device_properties", lambda _, m=memory: SimpleNamespace(total_memory=m))
        assert staging_obstacle(buffer) == said


NEW_PRECISION = """
import torch as th
from sb3_ppo_variants import PPOClip

th.backends.cudnn.conv.fp32_precision = "ieee"
settings = {"n_steps": 64, "batch_size": 16, "learning_rate": 0.01, "seed": 0, "device": "cpu"}
model = PPOClip("MlpPolicy", "CartPole-v1", max_kl=1e-4, **settings).learn(64)
print(model.last_update.projection < 1, th._C._get_cudnn_enabled())
"""


def test_tf32_may_be_set_through_torch_s_new_names() -> None:
    if not hasattr(th.backends.cudnn, "conv"):
        pytest.skip("this torch has the old names only")
    done = subprocess.run([sys.executable, "-c", NEW_PRECISION], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"]

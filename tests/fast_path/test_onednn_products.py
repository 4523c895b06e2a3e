"""Products of wide layers by oneDNN: what it computes, where it is asked, and that all paths agree.

The processor of this machine does not matter: the tests decide themselves whether torch's own products are slow there.
"""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import collect_rollout, flat
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from test_acceleration import make_model, relative_difference, updated
from torch import nn

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.extractors import BFloat16CNN
from sb3_ppo_variants.fast_path import numpy_update, onednn_products
from sb3_ppo_variants.fast_path.numpy_trunk import NumpyMlp
from sb3_ppo_variants.fast_path.onednn_products import pays, product, wide_layers_in_onednn

WIDE = {"net_arch": [420, 420]}  # 24 rows: 4.2 million products
SMALL_IMAGES = {"features_extractor_kwargs": {"features_dim": 512}, "net_arch": [420, 420]}


@pytest.fixture
def slow_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_products, "_others_are_slow", lambda: True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Note the shapes of what oneDNN computes."""
    noted: list[tuple[int, ...]] = []
    operation = onednn_products._operation()

    def noting(inputs: th.Tensor, weight: th.Tensor, *others: Any) -> Any:
        noted.append((*inputs.shape, len(weight)))
        return operation(inputs, weight, *others)

    monkeypatch.setattr(onednn_products, "_operation", lambda: noting)
    return noted


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [None, th.linspace(-1, 1, 70)])
def test_a_product_is_that_of_torch_to_rounding(transposed: bool, bias: th.Tensor | None) -> None:
    th.manual_seed(0)
    inputs, weight = th.randn(90, 50), th.randn(70, 50)
    if transposed:
        inputs, weight = (matrix.t().contiguous().t() for matrix in (inputs, weight))
    expected = nn.functional.linear(inputs.double(), weight.double(), None if bias is None else bias.double())
    th.testing.assert_close(product(inputs, weight, bias).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_bias_may_lie_in_any_order_in_memory() -> None:
    inputs, weight, bias = th.randn(9, 5), th.randn(6, 5), th.randn(12)[::2]
    th.testing.assert_close(product(inputs, weight, bias), nn.functional.linear(inputs, weight, bias))
    th.testing.assert_close(product(inputs, weight, bias[:1].expand(6)), inputs @ weight.t() + bias[:1])


def test_gradients_of_a_wide_layer_are_those_of_autograd_and_can_be_differentiated_again() -> None:
    th.manual_seed(0)
    layer, inputs = nn.Linear(420, 420), th.randn(30, 420, requires_grad=True)
    found = []
    for wide in (False, True):
        if wide:
            with wide_layers_in_onednn(layer):
                output = layer(inputs)
            assert "_Linear" in type(output.grad_fn).__name__
        else:
            output = layer(inputs)
        loss = (output.tanh() ** 2).sum()
        first = th.autograd.grad(loss, [inputs, *layer.parameters()], create_graph=True)
        second = th.autograd.grad(sum((g**2).sum() for g in first), [inputs, *layer.parameters()])
        found.append([*first, *second])
    for expected, ours in zip(*found):
        th.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * expected.detach().abs().max().item())


def test_transforms_of_functions_go_through_a_wide_layer() -> None:
    layer, inputs = nn.Linear(420, 420), th.randn(30, 420)
    expected = th.func.grad(lambda x: layer(x).sin().sum())(inputs)
    with wide_layers_in_onednn(layer):
        found = th.func.grad(lambda x: layer(x).sin().sum())(inputs)
    th.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "inputs", [th.randn(2, 420), th.randn(2, 30, 420), th.randn(30, 420).double()], ids=["few", "sequences", "double"]
)
def test_other_inputs_take_the_layers_own_way(inputs: th.Tensor, calls: list[Any]) -> None:
    layer = nn.Linear(420, 420).to(inputs.dtype)
    expected = layer(inputs)
    with wide_layers_in_onednn(layer):
        assert th.equal(layer(inputs), expected)
    assert calls == []


def test_autocast_is_left_alone(calls: list[Any]) -> None:
    layer, inputs = nn.Linear(420, 420), th.randn(30, 420)
    with wide_layers_in_onednn(layer), th.autocast("cpu", dtype=th.bfloat16):
        assert layer(inputs).dtype == th.bfloat16
    assert calls == []


def test_nothing_is_left_behind_and_copies_have_the_layers_own_method() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    before = list(vars(network[0]))
    with wide_layers_in_onednn(network):
        copied, loaded = copy.deepcopy(network), pickle.loads(pickle.dumps(network))
    assert list(vars(network[0])) == before
    for other in (copied, loaded):
        assert other[0].forward.__func__ is nn.Linear.forward
        assert other[0].forward.__self__ is other[0]


@pytest.mark.parametrize(
    ("kwargs", "numpy"),
    [
        ({"policy_kwargs": WIDE}, True),
        ({"policy_kwargs": WIDE}, False),
        ({"policy_kwargs": WIDE | {"activation_fn": nn.ELU}}, None),
        ({"observation": "image", "policy_kwargs": SMALL_IMAGES}, None),
    ],
    ids=["numpy", "written out", "autograd", "images"],
)
@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty])
@pytest.mark.usefixtures("slow_products")
def test_updates_equal_the_reference_to_rounding(
    cls: type[Any], kwargs: dict[str, Any], numpy: bool | None, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if numpy is False:
        monkeypatch.setattr(numpy_update, "_MOST_PRODUCTS", 0)
        monkeypatch.setattr(numpy_update, "_MOST_BESIDE_THREADS", 0)
    reference = updated(cls, "off", 2, **kwargs)
    assert calls == []
    fast = updated(cls, "eager", 2, **kwargs)
    report = fast.acceleration_report()
    assert report["products"] == "oneDNN's, of wide layers"
    assert (report["arithmetic"] == "numpy") == bool(numpy)
    assert (report["backward"] == "written out") == (numpy is not None)
    assert relative_difference(reference, fast) < 1e-5
    assert {(24, 420, 420), (420, 24, 420)} <= set(calls), "a product forward, and one for the weights"


@pytest.mark.usefixtures("slow_products")
def test_training_repeats_itself_to_the_last_bit() -> None:
    first, second = (make_model(PPOPenalty, policy_kwargs=WIDE).learn(128) for _ in range(2))
    assert th.equal(flat(first), flat(second))


@pytest.mark.usefixtures("slow_products")
def test_a_rollout_and_off_stay_with_torch(calls: list[Any]) -> None:
    collect_rollout(make_model(PPOClip, policy_kwargs={"net_arch": [1500, 1500]}))
    off = make_model(PPOClip, acceleration="off", policy_kwargs=WIDE).learn(64)
    assert calls == []
    assert "off" in off.acceleration_report()["products"]


@pytest.mark.usefixtures("slow_products")
def test_wide_layers_are_not_compiled_and_narrow_ones_and_bfloat16_are() -> None:
    reports = [
        make_model(PPOClip, acceleration="compile", **kwargs).acceleration_report()["graph"]
        for kwargs in (
            {"policy_kwargs": WIDE},
            {},
            {"observation": "image", "policy_kwargs": {"features_extractor_class": BFloat16CNN, "net_arch": []}},
        )
    ]
    assert "layers that wide" in reports[0]
    assert reports[1:] == ["torch.compile", "torch.compile"]


def test_torchs_products_are_kept_where_they_are_as_fast(monkeypatch: pytest.MonkeyPatch, calls: list[Any]) -> None:
    monkeypatch.setattr(onednn_products, "_others_are_slow", lambda: False)
    model = make_model(PPOClip, policy_kwargs=WIDE).learn(64)
    assert "as fast" in model.acceleration_report()["products"]
    assert calls == []


@pytest.mark.usefixtures("slow_products")
def test_who_switches_onednn_off_has_torchs_products(calls: list[Any]) -> None:
    with th.backends.mkldnn.flags(enabled=False):
        model = make_model(PPOClip, policy_kwargs=WIDE).learn(64)
        assert "no oneDNN" in model.acceleration_report()["products"]
    assert calls == []


class OwnLayers(BaseFeaturesExtractor):
    def __init__(self, observation_space: Any):
        super().__init__(observation_space, 420)
        self.first, self.second = nn.Linear(4, 420), nn.Linear(420, 420)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.second(input=self.first(observations.flatten(1)[:, :4]))


@pytest.mark.usefixtures("slow_products")
def test_networks_of_ones_own_and_compiled_modules_have_torchs_products(calls: list[Any]) -> None:
    own = make_model(PPOClip, policy_kwargs={"features_extractor_class": OwnLayers}).learn(64)
    assert "OwnLayers" in own.acceleration_report()["products"]
    compiled = make_model(PPOClip, policy_kwargs=WIDE)
    compiled.policy.mlp_extractor.policy_net[0].compile(backend="eager")
    assert "compiled" in compiled.learn(64).acceleration_report()["products"]
    assert calls == []


@pytest.mark.usefixtures("slow_products")
def test_small_networks_are_not_asked_about_their_layers() -> None:
    assert "wide enough" in make_model(PPOClip).acceleration_report()["products"]


def test_only_large_products_pay() -> None:
    assert pays(512, th.empty(256, 256))
    assert pays(64, th.empty(256, 256))
    assert not pays(32, th.empty(256, 256))
    assert not pays(256, th.empty(64, 64))
    assert not pays(2, th.empty(512, 3136))


def test_the_networks_in_numpy_give_the_same_with_and_without() -> None:
    th.manual_seed(0)
    modules = [nn.Linear(40, 420), nn.Tanh(), nn.Linear(420, 420), nn.Tanh(), nn.Linear(420, 2)]
    parameters = [p for module in modules for p in module.parameters()]
    gradients = [{id(p): th.zeros_like(p) for p in parameters} for _ in range(2)]
    outputs = []
    for onednn, found in zip((False, True), gradients):
        network = NumpyMlp(modules, found, onednn)
        outputs.append(network.forward(np.linspace(-1, 1, 64 * 40).reshape(64, 40)).copy())
        network.backward(np.linspace(-1, 1, 128, dtype=np.float32).reshape(64, 2))
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    for p in parameters:
        expected, found = (each[id(p)] for each in gradients)
        th.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())

"""What torch.compile is given, and how its graphs are called."""

import gc
from typing import Any

import pytest
import torch as th
from torch.fx.experimental.proxy_tensor import make_fx

from sb3_ppo_variants.fast_path.compiler import BiasesInKernels, Graph, compiled_code

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
addmm = th.ops.aten.addmm.default


def traced(dtype: th.dtype) -> tuple[Any, tuple[th.Tensor, ...]]:
    """A layer as a graph of ATen's operations, with what the compiler knows of every value, and arguments of it."""
    args = tuple(th.randn(*shape, dtype=dtype) for shape in ((5, 3), (4, 3), (4,)))

    def layer(inputs: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
        return th.addmm(bias, inputs, weight.t()).tanh()

    return make_fx(layer, tracing_mode="fake")(*args), args


def count(graph: th.fx.Graph, operation: Any) -> int:
    return len(graph.find_nodes(op="call_function", target=operation))


def test_a_bias_is_added_after_the_product() -> None:
    module, args = traced(th.float32)
    before = module(*args)
    assert count(module.graph, addmm) == 1
    BiasesInKernels()(module.graph)
    module.recompile()
    assert count(module.graph, addmm) == 0
    assert count(module.graph, th.ops.aten.mm.default) == 1
    assert all("val" in node.meta for node in module.graph.nodes if node.op == "call_function")
    th.testing.assert_close(module(*args), before)


def test_a_sum_of_short_numbers_is_not_rounded_twice() -> None:
    module, _ = traced(th.bfloat16)
    BiasesInKernels()(module.graph)
    assert count(module.graph, addmm) == 1


class Layer:
    """Keeps what it is asked: Python that a graph has to repeat."""

    def __init__(self) -> None:
        self.weight = th.randn(4, 3)
        self.asked: th.Tensor | None = None

    def function(self) -> Any:
        def product(inputs: th.Tensor) -> th.Tensor:
            self.asked = inputs
            return inputs @ self.weight.T

        return product


@pytest.mark.parametrize("torch_tells", [True, False])
def test_a_graph_is_what_its_function_is(torch_tells: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch_tells:
        monkeypatch.delattr(th._dynamo.eval_frame, "_debug_get_cache_entry_list")
    layer = Layer()
    graph = Graph(layer.function(), on_gpu=False)
    for _ in range(4):
        inputs = th.randn(5, 3)
        th.testing.assert_close(graph(inputs), inputs @ layer.weight.T)
        assert layer.asked is inputs
        layer.weight = th.randn(4, 3)  # it is looked for at every call
    assert (graph._call.__code__.co_name == "product") is torch_tells
    assert compiled_code(graph._function) is None  # torch has forgotten it


def test_a_graph_survives_a_reset_of_the_compiler() -> None:
    layer = Layer()
    graph = Graph(layer.function(), on_gpu=False)
    graph(th.randn(5, 3))
    th._dynamo.reset()
    inputs = th.randn(5, 3)
    th.testing.assert_close(graph(inputs), inputs @ layer.weight.T)
    assert layer.asked is inputs


def test_without_exactly_one_graph_torch_looks_for_it() -> None:
    def double(x: th.Tensor) -> th.Tensor:
        return x * 2

    assert compiled_code(double) is None
    compiled = th.compile(double, backend="eager", dynamic=False)
    compiled(th.zeros(2))
    compiled(th.zeros(3))
    assert compiled_code(double) is None


@pytest.mark.parametrize("torch_tells", [True, False])
def test_a_graph_is_gone_with_what_used_it(torch_tells: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch_tells:  # then torch keeps it
        monkeypatch.delattr(th._dynamo.eval_frame, "_debug_get_cache_entry_list")

    def kept() -> int:
        gc.collect()
        return sum(name.startswith("__compiled_fn") for name in globals())

    before = kept()
    graph = Graph(Layer().function(), on_gpu=False)
    graph(th.randn(5, 3))
    assert kept() == before + 1
    del graph
    assert kept() == before + (0 if torch_tells else 1)

"""How torch.compile is called, and how far its gradients may be from those without it."""

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch as th
from torch._inductor.custom_graph_pass import CustomGraphPass

from sb3_ppo_variants.extractors import BFloat16Mixin
from sb3_ppo_variants.update.policy_evaluation import foreign_module

_MOST_APART = 1e-3  # of the length of the gradients; on the CPU rounding of float32 is a hundredth of it
_ROUGHLY = 1e-2  # the same on a GPU, and in modules of which nothing is known
_IN_SHORT_NUMBERS = 1e-1  # in bfloat16, and in TF32, a GPU's convolutions: 0.014 and 0.027 were seen on an H200
_FEW_INPUTS = 16
_CONVOLUTIONS = (th.nn.Conv1d, th.nn.Conv2d, th.nn.Conv3d)


class Graph:
    """A function as one graph of torch.compile, for arguments of the same shapes at every call.

    :param function: given tensors, in NamedTuples, tuples and dictionaries
    :param on_gpu: whether it runs there
    """

    def __init__(self, function: Any, on_gpu: bool):
        self._on_gpu = on_gpu
        self._has_run = False
        # A code object of its own: dynamo counts recompilations per code object, and every model compiles once.
        self._function = _with_code(function, function.__code__.replace())
        with validation_kept():
            options = compiler_options(on_gpu)
            self._call = th.compile(self._function, fullgraph=True, dynamic=False, options=options)

    def __call__(self, *args: Any) -> Any:
        """Call the function; the first time, compile it.

        :param args: its arguments
        """
        if self._has_run:
            return self._call(*args)
        with validation_kept():
            result = self._call(*args)
        self._has_run = True
        if not self._on_gpu:  # there torch counts the calls, to know when a CUDA graph's memory is free
            self._call = compiled_code(self._function) or self._call
        return result


def compiled_code(function: Any) -> Callable[..., Any] | None:
    """Return what torch.compile has made of a function, to be called without looking for a graph that fits.

    The search takes 40 to 70 us at each call, a sixth of the time of a small graph, and finds the one that there is: no
    guard is left that could send it on. Torch then forgets it: else it would keep it for the life of the process, with
    the tensors of a model that is long gone.

    :param function: that has been called through torch.compile, and will not be again
    :return: None if it has not one graph, or torch does not tell
    """
    dynamo: Any = th._dynamo.eval_frame
    try:
        (code,) = [entry.code for entry in dynamo._debug_get_cache_entry_list(function.__code__)]
        dynamo.reset_code(function.__code__)  # no entry may be looked at after that
        return _with_code(function, code)
    except (AttributeError, TypeError, ValueError):
        return None


def _with_code(function: Any, code: types.CodeType) -> Callable[..., Any]:
    return types.FunctionType(code, function.__globals__, function.__name__, None, function.__closure__)


class BiasesInKernels(CustomGraphPass):
    """Takes a layer's bias out of its matrix product: the compiler adds it in the kernel that comes next.

    A product that begins with the bias is preceded by a copy of it to every row, which takes a third to a fifth of the
    time of a small product.
    """

    def __call__(self, graph: th.fx.Graph) -> None:
        """Change a graph in place.

        :param graph: of ATen's operations
        """
        aten = th.ops.aten
        for node in graph.find_nodes(op="call_function", target=aten.addmm.default):
            value = node.meta.get("val")
            if node.kwargs or value is None or value.dtype != th.float32:
                continue  # of shorter numbers the sum would be rounded twice
            bias, *factors = node.args
            with graph.inserting_before(node):
                product = graph.call_function(aten.mm.default, tuple(factors))
                total = graph.call_function(aten.add.Tensor, (product, bias))
            product.meta["val"] = value
            total.meta.update(node.meta)
            node.replace_all_uses_with(total)
            graph.erase_node(node)

    def uuid(self) -> str:
        """Name what the pass does, for torch's cache of graphs on disk."""
        return f"{__name__}.{type(self).__name__} 1"


def compiler_options(on_gpu: bool) -> dict[str, Any]:
    """Return the options of torch.compile for the graph of an update.

    :param on_gpu: whether it runs there
    """
    # No guards: checking at every call that nothing changed costs as much as a minibatch. Shapes are fixed by
    # CompiledUpdate, and Acceleration makes a new CompiledStep when a setting or an object of the model changes.
    options: dict[str, Any] = {"guard_filter_fn": lambda guards: [False] * len(guards)}
    if on_gpu:
        return options | {"triton.cudagraphs": True}
    options |= {"cpp_wrapper": True, "post_grad_custom_post_pass": BiasesInKernels()}
    tanh_from_exp = "cpp.use_decompose_tanh"  # accurate to 1e-7; the compiler's own tanh takes six times as long
    if tanh_from_exp in th._inductor.list_options():
        options[tanh_from_exp] = True
    return options


def most_apart(policy: Any) -> float:
    """Return how far a graph's gradients may be from those without a graph, as a share of their length.

    :param policy: of the model
    """
    on_cpu = policy.device.type == "cpu"
    short = BFloat16Mixin if on_cpu else (BFloat16Mixin, *_CONVOLUTIONS)
    if any(isinstance(module, short) for module in policy.modules()):
        return _IN_SHORT_NUMBERS
    return _MOST_APART if on_cpu and foreign_module(policy) is None else _ROUGHLY


def first_line(error: Exception) -> str:
    """Say in one line what an exception of the compiler, whose messages have many, is about.

    :param error: that it raised
    """
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0]}" if said else type(error).__name__


def easy_to_differentiate(parameter: th.Tensor) -> th.Tensor:
    """Lay a weight with few inputs out in columns: torch then computes its gradient as inputs.T @ gradient.

    What it computes otherwise, gradient.T @ inputs, takes MKL two to five times as long where a layer has few inputs.

    :param parameter: of a network that a graph differentiates
    """
    if parameter.is_cuda or parameter.dim() != 2 or parameter.shape[1] > min(_FEW_INPUTS, len(parameter)):
        return parameter
    return parameter.t().contiguous().t()


@contextmanager
def validation_kept() -> Iterator[None]:
    """Keep the argument checks of torch.distributions, which torch.compile switches off for the whole process."""
    distribution: Any = th.distributions.Distribution
    validates = distribution._validate_args
    try:
        yield
    finally:
        distribution.set_default_validate_args(validates)


__all__ = ["Graph", "compiled_code", "easy_to_differentiate", "first_line", "most_apart", "validation_kept"]

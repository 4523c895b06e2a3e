"""Matrix products of wide layers by oneDNN, on processors whose widest vectors torch's and numpy's own do not use.

Torch has products of float32 from Intel's MKL, numpy from OpenBLAS. On AMD's processors with AVX-512 both compute with
AVX2, which is half as wide. oneDNN, which torch has for convolutions, goes by what a processor can do.
"""

import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_ppo_variants.extractors import BFloat16Mixin
from sb3_ppo_variants.fast_path.interception import StandIn, standing_in
from sb3_ppo_variants.update.policy_evaluation import foreign_module

_FEWEST_PRODUCTS = 4_000_000  # of weight and sample; below it what oneDNN's call costs is not made up for


def onednn_obstacle(policy: BasePolicy, n_rows: int) -> str | None:
    """Say why no product of a policy is left to oneDNN.

    :param policy: any policy
    :param n_rows: of a minibatch
    :return: the reason, or None if those that are large enough are
    """
    if any(parameter.device.type != "cpu" for parameter in policy.parameters()):
        return "the policy is not on the CPU"
    onednn: Any = th.backends.mkldnn
    if not (onednn.is_available() and onednn.enabled and _operation()):
        return "torch has no oneDNN"
    if not _others_are_slow():
        return "they are as fast on this processor"
    foreign = foreign_module(policy)
    if foreign is not None:  # it may ask its layers in ways that nn.Linear allows and this does not
        return f"{foreign} is not of a known package"
    if any(getattr(module, "_compiled_call_impl", None) is not None for module in policy.modules()):
        return "a module is compiled"
    short = [part for module in policy.modules() if isinstance(module, BFloat16Mixin) for part in module.modules()]
    layers = {module for module in policy.modules() if type(module) is nn.Linear}.difference(short)
    return None if any(pays(n_rows, layer.weight) for layer in layers) else "no linear layer is wide enough"


def pays(n_rows: int, weight: Any) -> bool:
    """Tell whether a product is large enough.

    :param n_rows: of the layer's input
    :param weight: of the layer, of two dimensions
    """
    return bool(n_rows * math.prod(weight.shape) >= _FEWEST_PRODUCTS)


def product(inputs: th.Tensor, weight: th.Tensor, bias: th.Tensor | None = None) -> th.Tensor:
    """Compute ``inputs @ weight.T + bias`` without a gradient, to rounding.

    :param inputs: float32, shape (n_rows, n_inputs), in any order in memory
    :param weight: shape (n_outputs, n_inputs), likewise
    :param bias: shape (n_outputs,)
    :return: shape (n_rows, n_outputs)
    """
    dense = None if bias is None else bias.contiguous()  # oneDNN takes no other, and reads it as if it were
    result: th.Tensor = _operation()(inputs, weight, dense, "none", [], "")
    return result


class _Linear(th.autograd.Function):
    """``nn.functional.linear`` by oneDNN, forward and backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: th.Tensor, weight: th.Tensor, bias: th.Tensor | None) -> th.Tensor:
        return product(inputs, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        inputs, weight = ctx.saved_tensors
        times = th.mm if th.is_grad_enabled() else _times  # somebody differentiates the gradient, too
        by_inputs = times(gradient, weight) if ctx.needs_input_grad[0] else None
        by_weight = times(gradient.t(), inputs) if ctx.needs_input_grad[1] else None
        return by_inputs, by_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None


def _times(a: th.Tensor, b: th.Tensor) -> th.Tensor:
    return product(a, b.t())


class _WideLayer(StandIn):
    """Stands in for the ``forward`` of a linear layer."""

    def __call__(self, inputs: Any) -> Any:
        layer: Any = self.policy
        plain = (
            isinstance(inputs, th.Tensor)
            and inputs.dim() == 2
            and inputs.dtype == layer.weight.dtype == th.float32
            and not (th.is_autocast_enabled("cpu") or th.compiler.is_compiling())
            and (layer.bias is None or len(layer.bias) == len(layer.weight))
        )
        if plain and pays(len(inputs), layer.weight):
            return _Linear.apply(inputs, layer.weight, layer.bias)  # type: ignore[no-untyped-call]
        return self.ordinary()(inputs)


@contextmanager
def wide_layers_in_onednn(policy: nn.Module) -> Iterator[None]:
    """Let oneDNN compute the large products of a policy's linear layers, and of their gradients.

    :param policy: one for which :func:`onednn_obstacle` finds nothing
    """
    layers = (module for module in policy.modules() if type(module) is nn.Linear and "forward" not in vars(module))
    with standing_in(*[_WideLayer(layer, "forward") for layer in layers]):
        yield


@cache
def _operation() -> Any:
    """Return torch's entry to oneDNN's product, which torch.compile uses; None if it has none."""
    return getattr(th.ops.mkldnn, "_linear_pointwise", None)


@cache
def _others_are_slow() -> bool:
    if th.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux
        described = platform.processor()
    return "AuthenticAMD" in described


__all__ = ["onednn_obstacle", "pays", "product", "wide_layers_in_onednn"]

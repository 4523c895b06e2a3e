"""The activations that the fast path knows, one object each: in torch, in numpy, and their derivative."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from torch import nn


class Activation(NamedTuple):
    """An activation function.

    :param forward: of a tensor, in its memory
    :param in_numpy: of an array, written to ``out``
    :param backward: gradient of the input, from the gradient of the output, whose memory it takes, and the output
    :param backward_in_numpy: the same with arrays; the output's memory is used, too
    """

    forward: Callable[[th.Tensor], th.Tensor]
    in_numpy: Callable[..., Any]
    backward: Callable[[th.Tensor, th.Tensor], th.Tensor]
    backward_in_numpy: Callable[[Any, Any], None]


def _tanh(x: Any, out: Any) -> None:
    if x.size < _WORTH_A_CALL_OF_TORCH or _TANH_IS_FAST:
        np.tanh(x, out=out)
        return
    # tanh x = 2 sigmoid(2 x) - 1, accurate to 2e-7 (not relative to x), in half the time of either library's tanh
    np.add(x, x, out=out)
    tensor = th.from_numpy(out)
    th.sigmoid(tensor, out=tensor)
    np.add(out, out, out=out)
    np.subtract(out, 1, out=out)


def _tanh_backward(gradient: Any, output: Any) -> None:
    np.multiply(output, output, out=output)
    np.subtract(1, output, out=output)
    gradient *= output


def _tanh_of_tensor(x: th.Tensor) -> th.Tensor:
    if x.device.type != "cpu" or x.dtype != th.float32 or x.numel() < _WORTH_MORE_CALLS:
        return x.tanh_()
    _tanh(x.numpy(), out=x.numpy())  # torch's own is MKL's, which on AMD's processors takes ten times as long
    return x


def _relu(x: Any, out: Any) -> None:
    if x.size < _WORTH_A_CALL_OF_TORCH:
        np.maximum(x, 0, out=out)
    else:
        th.clamp_min(th.from_numpy(x), 0, out=th.from_numpy(out))


def _relu_backward(gradient: Any, output: Any) -> None:
    if output.size < _WORTH_A_CALL_OF_TORCH:
        gradient *= output > 0
    else:
        tensor = th.from_numpy(gradient)
        th.ops.aten.threshold_backward.grad_input(tensor, th.from_numpy(output), 0, grad_input=tensor)


def _tanh_backward_of_tensor(gradient: th.Tensor, output: th.Tensor) -> th.Tensor:
    result: th.Tensor = th.ops.aten.tanh_backward.grad_input(gradient, output, grad_input=gradient)
    return result


def _relu_backward_of_tensor(gradient: th.Tensor, output: th.Tensor) -> th.Tensor:
    result: th.Tensor = th.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)
    return result


_WORTH_A_CALL_OF_TORCH = 2048  # numbers
_WORTH_MORE_CALLS = 16_384
_TANH_IS_FAST = th.backends.cpu.get_cpu_capability() == "AVX512"  # numpy's, and as accurate

ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Tanh: Activation(_tanh_of_tensor, _tanh, _tanh_backward_of_tensor, _tanh_backward),
    nn.ReLU: Activation(th.relu_, _relu, _relu_backward_of_tensor, _relu_backward),
}

__all__ = ["ACTIVATIONS", "Activation"]

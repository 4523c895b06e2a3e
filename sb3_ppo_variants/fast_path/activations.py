"""The activations that the fast path knows, one object each: in torch, in numpy, and their derivative."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from torch import nn


class Activation(NamedTuple):
    """An activation function.

    :param forward: of a tensor
    :param in_numpy: of an array, written to ``out``
    :param backward: gradient of the input, from the gradient of the output and the output
    """

    forward: Callable[[th.Tensor], th.Tensor]
    in_numpy: Callable[..., Any]
    backward: Callable[[th.Tensor, th.Tensor], th.Tensor]


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Tanh: Activation(th.tanh, np.tanh, th.ops.aten.tanh_backward),
    nn.ReLU: Activation(
        th.relu,
        lambda x, out: np.maximum(x, 0, out=out),
        lambda gradient, output: th.ops.aten.threshold_backward(gradient, output, 0),
    ),
}

__all__ = ["ACTIVATIONS", "Activation"]

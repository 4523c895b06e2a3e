"""A policy's buffers, such as running statistics, by their places, as a module may put another tensor into one."""

from typing import NamedTuple

import torch as th
from torch import nn


class BufferPlace(NamedTuple):
    """Where a module holds a buffer.

    :param module: that holds it
    :param name: by which
    """

    module: nn.Module
    name: str

    @property
    def tensor(self) -> th.Tensor:
        """What is there now."""
        found = self.module._buffers[self.name]
        assert found is not None  # see buffer_places
        return found

    def holds(self, value: th.Tensor) -> bool:
        """Tell whether it is there, to the last bit.

        :param value: of any shape
        """
        return self.tensor.shape == value.shape and same_numbers(self.tensor, value)

    def put(self, value: th.Tensor) -> None:
        """Make what is there equal to a value.

        :param value: which is copied
        """
        if self.holds(value):
            return
        if self.tensor.shape == value.shape:
            self.tensor.copy_(value)
        else:
            self.module._buffers[self.name] = value.clone()


def buffer_places(policy: nn.Module, floating: bool = False) -> list[BufferPlace]:
    """Find all buffers of a policy, but for sparse ones: nothing averages, trains or measures those.

    :param policy: any module
    :param floating: only those of floating-point numbers
    """
    return [
        BufferPlace(module, name)
        for module in policy.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.layout == th.strided and (buffer.is_floating_point() or not floating)
    ]


def same_numbers(one: th.Tensor, other: th.Tensor) -> bool:
    """Tell whether two tensors of one shape hold the same numbers; NaN is the same as NaN.

    :param one: dense
    :param other: dense
    """
    return th.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


class KeptTensors:
    """The parameters and buffers of a policy as they are when this is made, to be put back.

    :param policy: any module
    """

    def __init__(self, policy: nn.Module):
        self._parameters = [(parameter, parameter.detach().clone()) for parameter in policy.parameters()]
        self._buffers = [(place, place.tensor, place.tensor.clone()) for place in buffer_places(policy)]

    @th.no_grad()
    def put_back(self) -> None:
        """Give them the values that they had, and every place of a buffer the tensor that it held."""
        for parameter, value in self._parameters:
            if not same_numbers(parameter, value):  # a parameter that is written to cannot be differentiated any more
                parameter.copy_(value)
        for place, tensor, value in self._buffers:
            place.module._buffers[place.name] = tensor
            place.put(value)


__all__ = ["BufferPlace", "KeptTensors", "buffer_places", "same_numbers"]

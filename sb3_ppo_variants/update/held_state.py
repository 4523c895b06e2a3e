"""What a policy with modules of somebody's own remembers from call to call, put back after a measurement."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_ppo_variants.update.buffers import KeptTensors, same_numbers
from sb3_ppo_variants.update.generators import preserved_numpy_and_python_generators

_OF_TORCH = frozenset(vars(nn.Module()))  # parameters, buffers, children, hooks, mode


@contextmanager
def held_put_back(policy: nn.Module) -> Iterator[None]:
    """Undo what happens meanwhile to parameters, buffers, attributes and generators, global ones included.

    Each attribute refers to what it did. What it refers to is as it was, too, if it is a tensor, an array or a
    generator; of another object, as a list or an iterator, it is not known what it holds.

    :param policy: of which a module may change them whenever it is called
    """
    put_back: list[Callable[[], Any]] = [KeptTensors(policy).put_back]
    for module in policy.modules():
        own = {name: value for name, value in vars(module).items() if name not in _OF_TORCH}
        put_back += [restore for value in own.values() if (restore := _restoring(value)) is not None]
        put_back.append(partial(vars(module).update, own))
    try:
        with preserved_numpy_and_python_generators():
            yield
    finally:
        with th.no_grad():
            for one in put_back:
                one()


def _restoring(value: Any) -> Callable[[], Any] | None:
    """Return what gives an object back what it holds now; None if it is of no kind that is known to change."""
    if isinstance(value, th.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    if isinstance(value, th.Tensor) and value.layout == th.strided:
        return partial(_write_tensor, value, value.detach().clone())
    if isinstance(value, np.ndarray) and value.flags.writeable:
        return partial(np.copyto, value, value.copy())
    return None


def _write_tensor(tensor: th.Tensor, content: th.Tensor) -> None:
    if not same_numbers(tensor, content):  # else it may be one that nobody can write to
        tensor.copy_(content)


__all__ = ["held_put_back"]

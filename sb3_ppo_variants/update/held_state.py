"""What a policy with modules of somebody's own remembers from call to call, put back after a measurement."""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_ppo_variants.update.buffers import KeptTensors
from sb3_ppo_variants.update.generators import preserved_numpy_generator

_NUMBERS = (bool, int, float, str, type(None))
_OF_TORCH = frozenset(vars(nn.Module()))  # parameters, buffers, children, hooks, mode


@contextmanager
def held_put_back(policy: nn.Module) -> Iterator[None]:
    """Undo what happens meanwhile to parameters, buffers, attributes and generators, global ones included.

    Attributes are numbers, text, tensors and arrays. What a container of a module holds is not known.

    :param policy: of which a module may change them whenever it is called
    """
    put_back: list[Callable[[], Any]] = [KeptTensors(policy).put_back, partial(random.setstate, random.getstate())]
    put_back += [_putting_back(module, *item) for module in policy.modules() for item in _attributes(module)]
    try:
        with preserved_numpy_generator():
            yield
    finally:
        with th.no_grad():
            for one in put_back:
                one()


def _attributes(module: nn.Module) -> list[tuple[str, Any]]:
    kinds = (*_NUMBERS, th.Tensor, np.ndarray, np.generic, th.Generator, np.random.Generator, random.Random)
    return [item for item in vars(module).items() if item[0] not in _OF_TORCH and isinstance(item[1], kinds)]


def _putting_back(module: nn.Module, name: str, value: Any) -> Callable[[], Any]:
    """Return what makes an attribute, now of this value, the same again."""
    if isinstance(value, th.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    content = value.detach().clone() if isinstance(value, th.Tensor) else copy.copy(value)

    def put_back() -> None:
        vars(module)[name] = value
        if isinstance(value, th.Tensor):
            if not th.equal(value, content):
                value.copy_(content)
        elif isinstance(value, np.ndarray):
            value[...] = content

    return put_back


__all__ = ["held_put_back"]

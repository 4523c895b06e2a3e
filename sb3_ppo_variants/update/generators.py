"""Random generators left as they were: numpy's global one orders the minibatches of SB3's buffers.

A buffer of somebody's own may draw from torch's, too, as for augmented observations.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch as th


@contextmanager
def preserved_numpy_generator() -> Iterator[None]:
    """Restore numpy's global generator on exit: SB3's buffers draw their minibatch order from it.

    Reading the rollout for a measurement inside this context leaves the order of the minibatches that follow, and so
    the bit-exact equality with stock PPO, as it was.
    """
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def preserved_numpy_and_python_generators() -> Iterator[None]:
    """Restore numpy's and Python's global generators on exit: a module of somebody's own may draw from either."""
    state = random.getstate()
    try:
        with preserved_numpy_generator():
            yield
    finally:
        random.setstate(state)


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Restore numpy's and torch's global generators of the CPU on exit."""
    with preserved_numpy_generator(), th.random.fork_rng(devices=[]):
        yield


__all__ = ["preserved_generators", "preserved_numpy_and_python_generators", "preserved_numpy_generator"]

"""Random generators left as they were: numpy's global one orders the minibatches of SB3's buffers."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


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


__all__ = ["preserved_numpy_generator"]

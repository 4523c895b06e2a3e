"""From the rollout buffer to minibatches, without disturbing the random stream that orders them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer


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


def measurement_batches(buffer: RolloutBuffer, batch_size: int) -> Iterator[Any]:
    """Read the whole rollout once, in large minibatches, for a measurement without gradient.

    :param buffer: a full rollout buffer of any host
    :param batch_size: the training batch size; MLP observations are read in larger pieces, images are not
    :return: minibatches of the host's own NamedTuple
    """
    size = max(batch_size, 4_000_000 // _observation_size(buffer))
    with preserved_numpy_generator():
        yield from buffer.get(size)


def _observation_size(buffer: RolloutBuffer) -> int:
    shapes = buffer.obs_shape
    parts = shapes.values() if isinstance(shapes, dict) else [shapes]
    return max(1, sum(int(np.prod(shape)) for shape in parts))

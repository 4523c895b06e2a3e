"""The same actions and the same minibatches whether four environments are in one process or two in each of two.

Every draw takes one number from a global generator, which is in the same state in all processes, and makes of it a
generator for each environment (actions), or for each process's share of the rollout (minibatches). One process with all
environments takes the union of the two processes' minibatches.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch as th
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from torch.distributions import Categorical, Normal

from sb3_ppo_variants.update.distributions.base import Draws


class Share:
    """The part of a run that is in this process.

    :param first: number of the first process's part here
    :param parts: how many parts there are here
    :param n_envs: environments of a part
    :param batch_size: of a part
    """

    def __init__(self, first: int, parts: int, n_envs: int, batch_size: int):
        self.first, self.parts, self.n_envs, self.batch_size = first, parts, n_envs, batch_size

    def rows(self, shape: Any, kind: str) -> th.Tensor:
        """Draw for each environment from a generator of its own."""
        seed = int(th.randint(2**31 - 1, (1,)))
        drawn = th.empty(shape)
        for place, row in enumerate(drawn):
            generator = th.Generator().manual_seed(seed + 1_000_003 * (self.first * self.n_envs + place))
            getattr(row, kind)(generator=generator)
        return drawn

    def orders(self, size: int, draw: Any) -> list[np.ndarray]:
        """Draw an order of each part's share of a rollout of so many rows."""
        seed, share = np.random.randint(2**31 - 1 - 8), size // self.parts
        generators = [np.random.RandomState(seed + self.first + part) for part in range(self.parts)]
        return [draw(generator, share) + part * share for part, generator in enumerate(generators)]

    def permutation(self, size: int) -> np.ndarray:
        """Stand in for ``np.random.permutation``: the parts' minibatches in turn."""
        orders = self.orders(size, lambda generator, share: generator.permutation(share))
        starts = range(0, size // self.parts, self.batch_size)
        return np.concatenate([order[start : start + self.batch_size] for start in starts for order in orders])

    def get(self, buffer: RecurrentRolloutBuffer, batch_size: int | None = None) -> Iterator[Any]:
        """Stand in for contrib's ``get``: a piece of each part's sequences in a minibatch."""
        state = np.random.get_state()
        next(_CONTRIBS_GET(buffer, None))
        np.random.set_state(state)
        size = buffer.buffer_size * buffer.n_envs
        batch_size = (batch_size or size) // self.parts

        def cut(generator: np.random.RandomState, share: int) -> np.ndarray:
            return np.roll(np.arange(share), -generator.randint(share))

        orders = self.orders(size, cut)
        changes = np.zeros((buffer.buffer_size, buffer.n_envs))
        changes[0] = 1.0
        changes = buffer.swap_and_flatten(changes)
        for start in range(0, size // self.parts, batch_size):
            pieces = [order[start : start + batch_size] for order in orders]
            cuts = changes.copy()
            cuts[[piece[0] for piece in pieces]] = 1.0
            yield buffer._get_samples(np.concatenate(pieces), cuts)


_CONTRIBS_GET = RecurrentRolloutBuffer.get


@contextmanager
def same_draws(share: Share) -> Iterator[None]:
    """Replace what draws actions and minibatches."""

    def categorical(self: Categorical, sample_shape: Any = ()) -> th.Tensor:
        return (self.probs / share.rows(self.probs.shape, "exponential_")).argmax(dim=-1)

    def normal(self: Normal, sample_shape: Any = ()) -> th.Tensor:
        return self.loc + self.scale * share.rows(self.loc.shape, "normal_")

    with ExitStack() as stack:
        for owner, name, stand_in in (
            (np.random, "permutation", share.permutation),
            (RecurrentRolloutBuffer, "get", lambda buffer, batch_size=None: share.get(buffer, batch_size)),
            (Categorical, "sample", categorical),
            (Normal, "rsample", normal),
            (Draws, "exponential", lambda self, shape: share.rows(shape, "exponential_").numpy()),
            (Draws, "normal", lambda self, shape: share.rows(shape, "normal_").numpy()),
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield

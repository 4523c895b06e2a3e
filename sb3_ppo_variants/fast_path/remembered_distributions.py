"""The old policy's action distributions of a recurrent rollout: asked for once per update, not for every minibatch.

contrib's buffers store the LSTM's states of every step. So the old policy says the same of a step wherever a minibatch
cuts its sequence, as long as it is the policy that stored them; the log-probabilities stored beside them tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_ppo_variants.update.kl_divergence import Parameters
from sb3_ppo_variants.update.minibatches import measurement_batches
from sb3_ppo_variants.update.policy_evaluation import valid_steps

_TOLERANCE = 1e-4  # of a log-probability: the rollout's arithmetic is another, by rounding


class RememberedDistributions:
    """What the old policy says of each row of a rollout, once it has been asked.

    :param buffer: full, one of contrib's own for LSTM policies
    :param batch_size: of the training
    :param ask: returns the parameters of the old policy's distributions in a minibatch, shape (n_batch, ...) each, and
        the log-probabilities of the actions taken, shape (n_batch,)
    """

    def __init__(self, buffer: RolloutBuffer, batch_size: int, ask: Callable[[Any], tuple[Parameters, th.Tensor]]):
        self._buffer: Any = buffer
        self._batch_size = batch_size
        self._ask = ask
        self._latest: tuple[th.Tensor | None, th.Tensor | None] = None, None
        self._asked = False
        self._known: Parameters | None = None

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow which rows the buffer reads, unless somebody has put another method onto it."""
        if "_get_samples" in vars(self._buffer):
            yield
            return
        read = self._buffer._get_samples

        def followed(rows: npt.NDArray[np.int_], *args: Any, **kwargs: Any) -> Any:
            minibatch = read(rows, *args, **kwargs)
            self._latest = minibatch.mask, self._buffer.pad_and_flatten(rows)  # padding: row 0, and masked
            return minibatch

        self._buffer._get_samples = followed
        try:
            yield
        finally:
            del self._buffer._get_samples

    def of(self, minibatch: Any) -> Parameters | None:
        """Return the parameters of a minibatch's distributions, shape (n_batch, ...) each.

        :param minibatch: the latest that the buffer read
        :return: None if it is another, or the old policy is not the one of the rollout: then ask it
        """
        mask, rows = self._latest
        if rows is None or minibatch.mask is not mask:
            return None
        if not self._asked:
            self._asked = True
            self._known = self._ask_once()
        return None if self._known is None else tuple(p.index_select(0, rows) for p in self._known)

    def _ask_once(self) -> Parameters | None:
        """Ask for all rows; None if the log-probabilities are not those of the rollout."""
        latest, parameters, rows = self._latest, [], []
        for minibatch in measurement_batches(self._buffer, self._batch_size):
            mask, read = valid_steps(minibatch), self._latest[1]
            found, log_prob = self._ask(minibatch)
            stored = minibatch.old_log_prob[mask]
            if read is None or not th.allclose(log_prob[mask], stored, rtol=_TOLERANCE, atol=_TOLERANCE):
                return None
            parameters.append([p[mask] for p in found])
            rows.append(read[mask])
        self._latest = latest
        order = th.cat(rows).argsort()
        return tuple(th.cat(pieces)[order] for pieces in zip(*parameters))


__all__ = ["RememberedDistributions"]

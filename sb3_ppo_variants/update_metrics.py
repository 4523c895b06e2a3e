"""What an update measures: one row per minibatch on the device, read back once at the end."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th

FloatArray = npt.NDArray[np.float32]


class MinibatchMetrics(NamedTuple):
    """Scalars of one minibatch, as 0-dim tensors on the device.

    :param policy_loss: minus the mean surrogate, without the penalty
    :param value_loss: mean of the value errors
    :param entropy_loss: minus the mean entropy, nats
    :param loss: what was differentiated
    :param approx_kl: Schulman's k3 estimate of KL(old || new) from the sampled ratios, nats per state
    :param clip_fraction: share of ratios outside the clip range
    :param value_clip_fraction: share of predictions further than ``clip_range_vf`` from the old ones
    :param ratio_max: largest ratio
    :param kl_divergence: exact KL of the minibatch; 0 where the algorithm's loss does not need it
    :param grad_norm: gradient norm before clipping; 0 for a minibatch at which the update stopped
    """

    policy_loss: th.Tensor
    value_loss: th.Tensor
    entropy_loss: th.Tensor
    loss: th.Tensor
    approx_kl: th.Tensor
    clip_fraction: th.Tensor
    value_clip_fraction: th.Tensor
    ratio_max: th.Tensor
    kl_divergence: th.Tensor
    grad_norm: th.Tensor


@dataclass(frozen=True)
class UpdateTrace:
    """Course of one update, as ``model.last_update``.

    :param minibatches: one row per minibatch in the order of ``MinibatchMetrics``, shape (n_minibatches, n_metrics)
    :param epoch: epoch of each row, shape (n_minibatches,)
    :param epoch_kl: exact KL over the whole rollout after each epoch where it was needed, else NaN, shape (n_epochs,);
        the last one is always measured, and is ``train/kl_divergence``
    :param epochs_done: epochs that were done, with the fraction of one that was broken off
    :param stopped: True if ``target_kl`` (PPOClip) or ``max_kl`` ended the update early
    """

    minibatches: FloatArray
    epoch: npt.NDArray[np.int64]
    epoch_kl: FloatArray
    epochs_done: float
    stopped: bool

    def column(self, name: str) -> FloatArray:
        """Return one metric of every minibatch.

        :param name: a field of ``MinibatchMetrics``
        :return: shape (n_minibatches,)
        """
        column: FloatArray = self.minibatches[:, MinibatchMetrics._fields.index(name)]
        return column

    def per_epoch(self, name: str) -> FloatArray:
        """Average one metric over the minibatches of each epoch.

        :param name: a field of ``MinibatchMetrics``
        :return: shape (n_epochs,)
        """
        column = self.column(name)
        return np.array([column[self.epoch == epoch].mean() for epoch in np.unique(self.epoch)], dtype=np.float32)

    def mean(self, name: str) -> float:
        """Average one metric over all minibatches of the update.

        :param name: a field of ``MinibatchMetrics``
        """
        return float(self.column(name).mean(dtype=np.float64))


class TraceRecorder:
    """Collects an update's measurements without reading them back from the device until it is over.

    :param n_epochs: epochs the update is meant to take
    :param minibatches_per_epoch: optimiser steps in each
    """

    checks_per_epoch = 4

    def __init__(self, n_epochs: int, minibatches_per_epoch: int):
        self.n_epochs = n_epochs
        self.minibatches_per_epoch = minibatches_per_epoch
        self.stopped = False
        self._rows: list[th.Tensor] = []
        self._epochs: list[int] = []
        self._epoch_kl: list[float] = []
        self._in_epoch = 0
        self._steps = 0

    @property
    def finished(self) -> bool:
        """True if no epoch may follow."""
        return self.stopped or len(self._epoch_kl) == self.n_epochs

    @property
    def progress(self) -> float:
        """Share of the update's optimiser steps that were taken, in [0, 1]."""
        return self._steps / (self.n_epochs * self.minibatches_per_epoch)

    def add_minibatches(self, metrics: th.Tensor) -> bool:
        """Append one row, shape (n_metrics,), or several, shape (n, n_metrics).

        :param metrics: of the step or steps just taken
        :return: True if this is a point inside the epoch at which the exact KL is to be checked
        """
        rows = metrics.reshape(-1, len(MinibatchMetrics._fields))
        self._rows.append(rows)
        self._epochs += [len(self._epoch_kl)] * len(rows)
        if self.stopped:  # before this step was taken
            return False
        before, self._in_epoch = self._in_epoch, self._in_epoch + len(rows)
        self._steps += len(rows)
        quarters = [self.checks_per_epoch * done // self.minibatches_per_epoch for done in (before, self._in_epoch)]
        return self._in_epoch < self.minibatches_per_epoch and quarters[0] < quarters[1]

    def end_epoch(self) -> None:
        """Close an epoch, whether it was completed or broken off."""
        self._epoch_kl.append(math.nan)
        self._in_epoch = 0

    def add_kl(self, kl: float) -> float:
        """Store the exact KL measured after the epoch just closed, and return it."""
        self._epoch_kl[-1] = kl
        return kl

    def final_kl(self, measure: Callable[[], float]) -> float:
        """Return the exact KL after the last step; measured now unless that was done after the last epoch.

        :param measure: how to measure it, nats per state
        """
        return self.add_kl(measure()) if math.isnan(self._epoch_kl[-1]) else self._epoch_kl[-1]

    def freeze(self) -> UpdateTrace:
        """Read everything back from the device, once."""
        return UpdateTrace(
            minibatches=th.cat(self._rows).cpu().numpy(),
            epoch=np.array(self._epochs),
            epoch_kl=np.array(self._epoch_kl, dtype=np.float32),
            epochs_done=self._steps / self.minibatches_per_epoch,
            stopped=self.stopped,
        )

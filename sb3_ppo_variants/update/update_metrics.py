"""What an update measures: one row per minibatch on the device, read back once at the end."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th

from sb3_ppo_variants.distributed.ranks import Ranks
from sb3_ppo_variants.distributed.shared_memory import Part
from sb3_ppo_variants.update.losses import Number
from sb3_ppo_variants.update.projection import Projection

FloatArray = npt.NDArray[np.float32]


class MinibatchMetrics(NamedTuple):
    """Scalars of one minibatch, as 0-dim tensors on the device, or numpy's.

    :param policy_loss: minus the mean surrogate, without the penalty
    :param value_loss: mean of the value errors
    :param entropy_loss: minus the mean entropy, nats
    :param loss: what was differentiated
    :param approx_kl: Schulman's k3 estimate of KL(old || new) from the sampled ratios, nats per state
    :param clip_fraction: share of ratios outside the clip range
    :param value_clip_fraction: share of predictions further than ``clip_range_vf`` from the old ones
    :param ratio_max: largest ratio
    :param kl_divergence: exact KL on the minibatch's states before its step; 0 where neither loss nor limit needs it
    :param grad_norm: gradient norm before clipping; 0 for a minibatch at which the update stopped
    :param skipped: 1 if the step was not taken because loss or gradient was not finite, else 0
    :param policy_gain: mean surrogate less that of the old policy, the mean advantage; 0 unless the loss has the KL
    :param extra: what the variant's ``extra_metrics`` returned
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
    skipped: th.Tensor
    policy_gain: th.Tensor
    extra: Mapping[str, th.Tensor] = MappingProxyType({})

    def named(self, name: str) -> th.Tensor:
        """Return one metric by name, the variant's own included."""
        value: th.Tensor = self.extra[name] if name in self.extra else getattr(self, name)
        return value

    def row(self) -> th.Tensor:
        """Return all metrics in the order of ``METRICS``, the variant's own after them."""
        joined = self._joined()
        row: th.Tensor = joined if isinstance(joined, th.Tensor) else th.from_numpy(joined)  # as_tensor takes longer
        return row

    def over_ranks(self, ranks: Ranks, gradients: Callable[[], Sequence[Part]] = tuple) -> "MinibatchMetrics":
        """Make these the metrics of the minibatches of all ranks together, and average gradients in the same exchange.

        :param ranks: of the run
        :param gradients: gives those of the minibatch, which are replaced by their means; not called for a single rank
        """
        if ranks.size == 1:
            return self
        size = ranks.size
        message = self._joined(room=size)
        message[ranks.rank] = message[size + _RATIO_MAX]  # the largest: a mean of which each rank fills one place
        ranks.mean_(*gradients(), message)
        shared = list(message[size:])
        shared[_RATIO_MAX] = message[:size].max() * size
        return MinibatchMetrics._make([*shared[: len(METRICS)], dict(zip(self.extra, shared[len(METRICS) :]))])

    def _joined(self, room: int = 0) -> Any:
        """Return all numbers in a row, behind as many zeros: a tensor, or an array if they are numpy's."""
        values = [*self[:-1], *self.extra.values()]
        if isinstance(self.loss, th.Tensor):
            return th.stack([th.zeros_like(self.loss)] * room + values)
        return np.array([0.0] * room + [float(value) for value in values], dtype=np.float32)


METRICS = MinibatchMetrics._fields[:-1]
LOGGED_NAMES = frozenset(METRICS) | {
    *("policy_gradient_loss", "explained_variance", "std", "n_updates", "epochs_done", "skipped_minibatches"),
    *("kl_before_projection", "projection", "target_kl", "saturated", "learning_rate", "clip_range", "clip_range_vf"),
    *("beta", "clip_scale", "lr_scale"),
}
"""What the classes log as ``train/<name>`` themselves."""
_KL, _SKIPPED, _RATIO_MAX = (METRICS.index(name) for name in ("kl_divergence", "skipped", "ratio_max"))


@dataclass(frozen=True)
class UpdateTrace:
    """Course of one update, as ``model.last_update``.

    :param minibatches: one row per minibatch in the order of ``names``, shape (n_minibatches, n_metrics)
    :param epoch: epoch of each row, shape (n_minibatches,)
    :param kl_divergence: exact KL after the last step, over the whole rollout (PPOClip without ``max_kl``: of images,
        over 128 states of it), nats per state
    :param epochs_done: epochs that were done, with the fraction of one that was broken off
    :param coefficients: what each epoch went by: ``clip_range``, ``ent_coef``, ``beta`` ..., one entry per epoch
    :param names: of the metrics: ``METRICS``, and the variant's own
    :param kl_before_projection: exact KL after the last step, before the policy was taken back to ``max_kl``
    :param projection: share of the policy's step that was kept, in [0, 1]
    :param stopped: True if ``target_kl`` (PPOClip) or ``max_kl`` ended the update early
    """

    minibatches: FloatArray
    epoch: npt.NDArray[np.int64]
    kl_divergence: float
    epochs_done: float
    stopped: bool
    coefficients: tuple[Mapping[str, Number], ...]
    names: tuple[str, ...] = METRICS
    kl_before_projection: float = math.nan
    projection: float = 1.0

    def __repr__(self) -> str:
        """Return one line, not the arrays."""
        taken, count = int(self.taken.sum()), len(self.epoch)
        skipped = f", {count - taken} skipped" if taken < count else ""
        end = ", stopped" if self.stopped else ""
        done = f"KL {self.kl_divergence:.4g}, {self.epochs_done:g} epochs, {count} minibatches"
        return f"<UpdateTrace: {done}{skipped}{end}>"

    def column(self, name: str) -> FloatArray:
        """Return one metric of every minibatch.

        :param name: one of ``names``
        :return: shape (n_minibatches,)
        """
        column: FloatArray = self.minibatches[:, self.names.index(name)]
        return column

    def per_epoch(self, name: str) -> FloatArray:
        """Average one metric over the minibatches of each epoch that were not skipped.

        :param name: one of ``names``
        :return: shape (n_epochs,)
        """
        column, taken = self.column(name), self.taken
        epochs = np.unique(self.epoch[taken])
        return np.array([column[taken & (self.epoch == epoch)].mean() for epoch in epochs], dtype=np.float32)

    def mean(self, name: str) -> float:
        """Average one metric over all minibatches of the update that were not skipped.

        :param name: one of ``names``
        """
        return float(self.column(name)[self.taken].mean(dtype=np.float64))

    @property
    def taken(self) -> npt.NDArray[np.bool_]:
        """Which minibatches were not skipped as non-finite, shape (n_minibatches,)."""
        taken: npt.NDArray[np.bool_] = self.column("skipped") == 0
        return taken


class TraceRecorder:
    """Collects an update's measurements without reading them back from the device until it is over.

    :param n_epochs: epochs the update is meant to take
    :param minibatches_per_epoch: optimiser steps in each
    :param extra_names: of the variant's own metrics
    """

    checks_per_epoch = 16

    def __init__(self, n_epochs: int, minibatches_per_epoch: int, extra_names: Sequence[str] = ()):
        self.n_epochs = n_epochs
        self.minibatches_per_epoch = minibatches_per_epoch
        self.stopped = False
        self.names = (*METRICS, *extra_names)
        self.last_kl: float | None = None
        self._rows: list[th.Tensor] = []
        self._rows_read = self._first_row_of_epoch = 0
        self._epochs: list[int] = []
        self._coefficients: list[Mapping[str, Number]] = []
        self.epoch = 0
        self._in_epoch = 0
        self._checked_after = self.checked_after(minibatches_per_epoch)
        self.steps = 0

    @classmethod
    def checked_after(cls, minibatches: int) -> list[int]:
        """List after which minibatches of an epoch, counted from 1, the KL is checked.

        :param minibatches: of the epoch
        """
        return sorted({-(-minibatches * check // cls.checks_per_epoch) for check in range(1, cls.checks_per_epoch + 1)})

    @property
    def progress(self) -> float:
        """Share of the update's optimiser steps that were taken, in [0, 1]."""
        return self.steps / (self.n_epochs * self.minibatches_per_epoch)

    def add_minibatches(self, metrics: th.Tensor) -> bool:
        """Append one row, shape (n_metrics,), or several, shape (n, n_metrics).

        :param metrics: of the step or steps just taken
        :return: True if the KL is to be checked here: up to 16 times per epoch, its end included
        """
        count = 1 if metrics.ndim == 1 else len(metrics)
        if self._in_epoch == 0:
            self._first_row_of_epoch = len(self._rows)
        self._rows.append(metrics)
        self._epochs += [self.epoch] * count
        taken = count - self.stopped  # a rule has stopped the update before the last one
        before, self._in_epoch = self._in_epoch, self._in_epoch + taken
        self.steps += taken
        if self.stopped:
            return False
        return bisect_right(self._checked_after, before) < bisect_right(self._checked_after, self._in_epoch)

    def read_kl(self) -> float | None:
        """Average the exact KL of the minibatches since the last call; this waits for the device.

        :return: nats per state; None if all of them were skipped, so that nothing was learned of it
        """
        rows = self._joined(self._rows_read).tolist()  # a few rows: not worth numpy's calls
        self._rows_read = len(self._rows)
        taken = [row[_KL] for row in rows if row[_SKIPPED] == 0]
        if not taken:
            return None
        self.last_kl = sum(taken) / len(taken)
        return self.last_kl

    def mean_of_last_epoch(self, name: str) -> float:
        """Average one metric over the latest epoch's minibatches that were not skipped; this waits for the device.

        :param name: one of ``names``
        """
        rows = self._joined(self._first_row_of_epoch).cpu().numpy()
        taken = rows[rows[:, _SKIPPED] == 0, self.names.index(name)].tolist()
        return sum(taken) / len(taken) if taken else math.nan

    def first_skipped(self) -> tuple[int, int, FloatArray]:
        """Find the first step that was not taken.

        :return: its minibatch within the epoch and its epoch, from 0, and its metrics, shape (n_metrics,)
        """
        rows = self._joined(0).cpu().numpy()
        first = int(np.argmax(rows[:, _SKIPPED] > 0))
        return first - self._epochs.index(self._epochs[first]), self._epochs[first], rows[first]

    def _joined(self, first: int) -> th.Tensor:
        """Return the metrics from one step, or graph, on. To join a single one would take longer than to read it."""
        rows = self._rows[first:]
        return rows[0].reshape(-1, len(self.names)) if len(rows) == 1 else th.vstack(rows)

    def end_epoch(self, coefficients: Mapping[str, Number]) -> None:
        """Close an epoch, whether it was completed or broken off.

        :param coefficients: it went by
        """
        self._coefficients.append(coefficients)
        self.epoch += 1
        self._in_epoch = 0

    def freeze(self, projection: Projection) -> UpdateTrace:
        """Read everything back from the device, once.

        :param projection: what became of the policy after the last step
        """
        return UpdateTrace(
            minibatches=self._joined(0).cpu().numpy(),
            epoch=np.array(self._epochs),
            kl_divergence=projection.kl,
            kl_before_projection=projection.kl_before,
            projection=projection.share,
            epochs_done=self.steps / self.minibatches_per_epoch,
            stopped=self.stopped,
            coefficients=tuple(self._coefficients),
            names=self.names,
        )

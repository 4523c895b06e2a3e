"""What an update must measure and obey, declared by the algorithm once per update."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch as th

from sb3_ppo_variants.update.update_metrics import METRICS, MinibatchMetrics


class StopRule(NamedTuple):
    """The update ends before a step whose minibatch has a metric above a limit, as with stock PPO's ``target_kl``.

    :param metric: a field of ``MinibatchMetrics``, or one of the variant's ``extra_metrics``
    :param limit: in the metric's unit; NaN is not above it, as in stock PPO
    """

    metric: str
    limit: float

    def __str__(self) -> str:
        return f"{self.metric} is above {self.limit:.3g}"

    def check(self, own: Sequence[str]) -> None:
        """Refuse a metric that is not there before a step.

        :param own: names of the variant's own metrics
        :raises ValueError: naming those that are
        """
        known = [*(name for name in METRICS if name not in ("grad_norm", "skipped")), *own]
        if self.metric not in known:
            raise ValueError(
                f"a StopRule's metric must be known before the step, got {self.metric!r}: {', '.join(known)}"
            )

    def passed(self, metrics: MinibatchMetrics) -> bool:
        """Compare a minibatch with the limit; this waits for the device.

        :param metrics: of the minibatch
        """
        return bool(np.float32(metrics.named(self.metric).item()) > self.limit)

    def passed_in(self, metrics: th.Tensor, names: Sequence[str]) -> bool:
        """Compare each of several minibatches with the limit; this waits for the device.

        :param metrics: shape (n_minibatches, n_metrics)
        :param names: of the metrics
        """
        return bool((metrics[:, names.index(self.metric)] > self.limit).any())


class UpdateRules(NamedTuple):
    """What the exact KL divergence of an update is used for, and what ends the update.

    :param kl_in_loss: the loss of a minibatch needs the KL, with gradient
    :param kl_every_check: ``after_check`` reacts to it, up to 16 times per epoch
    :param kl_every_epoch: ``after_epoch`` reacts to it
    :param kl_decides: something depends on it after the update, so that it is measured over the whole rollout
    :param kl_limit: the update must not leave the policy further away than this, nats per state; None for no limit
    :param on_max_kl: ``"stop"`` ends the update where the limit is passed; ``"project"`` runs all epochs and then takes
        the policy back to the limit
    :param stop_before_step: ends the update by a metric of the minibatch; None for no such rule
    """

    kl_in_loss: bool = False
    kl_every_check: bool = False
    kl_every_epoch: bool = False
    kl_decides: bool = False
    kl_limit: float | None = None
    on_max_kl: Literal["stop", "project"] = "stop"
    stop_before_step: StopRule | None = None

    @property
    def stop_limit(self) -> float | None:
        """KL beyond which no further step is taken; None if all are."""
        return self._limit() if self.on_max_kl == "stop" else None

    def stops_at(self, kl: float | None) -> bool:
        """Decide whether the update ends at a KL.

        :param kl: nats per state; NaN counts as too high, None as nothing measured
        """
        return self.stop_limit is not None and kl is not None and not kl <= self.stop_limit

    @property
    def projection_limit(self) -> float | None:
        """KL to which the policy is taken back after the last step; None if it never is."""
        return self._limit() if self.on_max_kl == "project" else None

    @property
    def watches_kl(self) -> bool:
        """True if the KL is looked at during the update."""
        return self.kl_every_check or self.kl_every_epoch or self.stop_limit is not None

    @property
    def needs_old_distribution(self) -> bool:
        """True if every minibatch is compared with the old policy."""
        stop = self.stop_before_step
        return self.kl_in_loss or self.watches_kl or (stop is not None and stop.metric == "kl_divergence")

    @property
    def measures_everything(self) -> bool:
        """True if the KL after the update has to be that of the whole rollout: anywhere else a sample will do."""
        return self.needs_old_distribution or self.kl_decides or self.kl_limit is not None

    def _limit(self) -> float | None:
        if self.kl_limit is None:
            return None
        if math.isnan(self.kl_limit):
            raise ValueError("kl_limit() must return nats per state, or None for no limit, got nan")
        return max(self.kl_limit, 0.0)  # a schedule that ends at 0 is below it beyond total_timesteps


__all__ = ["StopRule", "UpdateRules"]

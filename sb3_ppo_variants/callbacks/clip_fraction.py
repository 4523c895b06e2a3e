"""Callbacks that watch the clip fraction or the KL, and warn or stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.arguments.checks import check_count, is_number, require
from sb3_ppo_variants.arguments.schedules import schedule_value
from sb3_ppo_variants.callbacks.clip_range_steering import current_clip_range
from sb3_ppo_variants.callbacks.update_callback import UpdateCallback
from sb3_ppo_variants.trust_region_log import KL_MEASURES
from sb3_ppo_variants.update.scaled_schedule import unscaled


class ClipFractionRecord(NamedTuple):
    """What ``ClipFractionCallback`` saw of one update.

    :param timesteps: environment steps before the update
    :param clip_fraction: of the update, in [0, 1]
    :param mean: over the last ``patience`` updates
    :param side: of the band: -1 below, 0 inside, 1 above
    """

    timesteps: int
    clip_fraction: float
    mean: float
    side: int


class ClipFractionCallback(UpdateCallback):
    """Watches the share of samples that the clip takes out, and says what to change if it stays outside a band.

    A warning is given when ``patience`` updates in a row are on the same side, once until an update is elsewhere.
    Logged after every update: ``trust_region/clip_fraction_mean`` (over ``patience`` updates) and
    ``trust_region/clip_fraction_side`` (-1 below the band, 0 inside, 1 above).

    :param low: below this the clip range does not constrain the policy, in [0, 1]
    :param high: above this it is too small for the steps taken, in [0, 1]
    :param patience: updates in a row before a warning, >= 1
    :param verbose: as in SB3
    :raises ValueError: for a value outside its range; before training, for an algorithm without clip
    """

    needs = "clip_range"

    def __init__(self, low: float = 0.05, high: float = 0.6, patience: int = 5, verbose: int = 0):
        super().__init__(verbose)
        check_fraction("low", low)
        check_fraction("high", high)
        require(low < high, "`low` must be < `high`", (low, high), "0.05 and 0.6 are the defaults")
        check_count("patience", patience, "pass 1 to react to every update")
        self.low, self.high, self.patience = low, high, patience
        self.history: list[ClipFractionRecord] = []
        self.in_a_row = 0  # public, as all that `resume` is to restore

    def _on_training_start(self) -> None:
        super()._on_training_start()
        warn_without_clip(self)

    def _begin_anew(self) -> None:
        self.history, self.in_a_row = [], 0

    def _on_update(self, logged: Mapping[str, Any]) -> None:
        if not _has_clip(self.model):
            return
        fraction = self.read(logged, "train/clip_fraction")
        if fraction is None:
            return
        side = int(fraction > self.high) - int(fraction < self.low)
        self.in_a_row = self.in_a_row + 1 if self.history and self.history[-1].side == side else 1
        latest = [*(record.clip_fraction for record in self.history), fraction][-self.patience :]
        mean = sum(latest) / len(latest)
        self.history.append(ClipFractionRecord(self.model.num_timesteps, fraction, mean, side))
        self.logger.record("trust_region/clip_fraction_mean", mean)
        self.logger.record("trust_region/clip_fraction_side", side)
        if side != 0 and self.in_a_row == self.patience:
            self.warn(self._advice(side, mean))

    def _advice(self, side: int, mean: float) -> str:
        seen = f"{mean:.0%} of the samples were clipped in the last {self.patience} updates, at step "
        seen += f"{self.model.num_timesteps}: "
        if side < 0:
            return (
                f"{seen}less than {self.low:.0%}, so that the clip range does not constrain the policy; try a smaller "
                "clip_range, or use what is left by a larger learning_rate or more n_epochs"
            )
        return (
            f"{seen}more than {self.high:.0%}, so that most samples teach nothing more; try a larger clip_range, a "
            "smaller learning_rate or fewer n_epochs"
        )


class _StopTraining(UpdateCallback):
    """Ends training at the first step after ``patience`` updates in a row whose value is above a limit."""

    keys: ClassVar[tuple[str, ...]]
    quantity: ClassVar[str]

    def __init__(self, limit: float, patience: int, verbose: int):
        super().__init__(verbose)
        check_count("patience", patience, "pass 1 to react to every update")
        self.limit, self.patience = limit, patience
        self.in_a_row = 0  # public, as all that `resume` is to restore; why it stops depends on the limit of now
        self.last_value, self.last_step = -math.inf, 0
        self._has_stopped = False

    @property
    def reason(self) -> str | None:
        """Why training stops; None as long as it goes on."""
        if self.in_a_row < self.patience or self.last_value <= self.limit:
            return None
        return (
            f"the {self.quantity} was above {self.limit:g} in {self.in_a_row} updates in a row "
            f"(the last: {self.last_value:.4g}), at step {self.last_step}"
        )

    def _on_training_start(self) -> None:
        super()._on_training_start()
        if self._has_stopped:  # training goes on all the same: it is given patience again
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.in_a_row, self.last_value, self._has_stopped = 0, -math.inf, False

    def _on_update(self, logged: Mapping[str, Any]) -> None:
        value = self.read(logged, *self.keys)
        if value is None:
            return
        self.in_a_row = 0 if value <= self.limit else self.in_a_row + 1  # NaN counts as too high
        self.last_value, self.last_step = value, self.model.num_timesteps

    def _on_step(self) -> bool:
        super()._on_step()
        self._has_stopped = self.reason is not None
        if self._has_stopped and self.verbose >= 1:
            print(f"Stopping training: {self.reason}")
        return not self._has_stopped


class StopTrainingOnClipFraction(_StopTraining):
    """Stops training once too many samples are clipped for too long.

    SB3 asks callbacks at environment steps only, so that training ends with the first step of the next rollout. Why is
    in ``reason`` and, with ``verbose >= 1``, printed.

    :param threshold: clip fraction that counts as too high if exceeded, in [0, 1]
    :param patience: updates in a row above it before training stops, >= 1
    :param verbose: 1 prints why training stopped
    :raises ValueError: for a value outside its range; before training, for an algorithm without clip
    """

    needs = "clip_range"
    keys = ("train/clip_fraction",)
    quantity = "clip fraction"

    def __init__(self, threshold: float = 0.8, patience: int = 10, verbose: int = 1):
        check_fraction("threshold", threshold)
        super().__init__(threshold, patience, verbose)

    def _on_training_start(self) -> None:
        super()._on_training_start()
        warn_without_clip(self)


class StopTrainingOnKL(_StopTraining):
    """Stops training once the policy moves too far per update for too long.

    The exact ``train/kl_divergence`` is watched where it is logged, else TRPO's ``train/kl_divergence_loss``, else the
    sampled ``train/approx_kl`` of stock PPO. NaN counts as too high. Training ends as in
    :class:`StopTrainingOnClipFraction`.

    :param max_kl: KL divergence of an update that counts as too high if exceeded, > 0, nats per state
    :param patience: updates in a row above it before training stops, >= 1
    :param verbose: 1 prints why training stopped
    :raises ValueError: for a value outside its range; before training, for an algorithm that logs no KL
    """

    needs = "target_kl"
    keys = tuple(f"train/{name}" for name in KL_MEASURES)
    quantity = "KL divergence"

    def __init__(self, max_kl: float, patience: int = 10, verbose: int = 1):
        ok = is_number(max_kl) and 0 < max_kl < math.inf
        require(ok, "`max_kl` must be a finite number > 0", max_kl, "0.1 is ten times a usual target")
        super().__init__(max_kl, patience, verbose)


def check_fraction(name: str, value: Any) -> None:
    """Refuse what is no number in [0, 1].

    :param name: of the argument
    :param value: as given
    :raises ValueError: if it is none
    """
    ok = is_number(value) and 0 <= value <= 1
    require(ok, f"`{name}` must be in [0, 1]", value, "it is a share of the samples")


def warn_without_clip(callback: UpdateCallback) -> None:
    """Warn if the model has no clip, so that nothing is ever clipped.

    :param callback: that looks at the clip fraction
    """
    if not _has_clip(callback.model):
        callback.warn(
            f"this {type(callback.model).__name__} has no clip (clip_range=None): its clip fraction is always 0 and "
            f"{type(callback).__name__} has nothing to go by; StopTrainingOnKL looks at the KL instead"
        )


def _has_clip(model: OnPolicyAlgorithm) -> bool:
    upper: Any = getattr(model, "clip_range_upper", None)
    progress = model._current_progress_remaining
    above = math.inf if upper is None else schedule_value("clip_range_upper", unscaled(upper), progress)
    return min(current_clip_range(model), above) < math.inf


__all__ = ["ClipFractionCallback", "ClipFractionRecord", "StopTrainingOnClipFraction", "StopTrainingOnKL"]

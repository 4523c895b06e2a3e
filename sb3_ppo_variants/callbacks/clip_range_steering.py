"""A clip range that follows the clip fraction: the controller's rule with another measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.algorithms.ppo_adaptive_clip import AdaptiveClipMixin
from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.arguments.schedules import schedule_value
from sb3_ppo_variants.callbacks.update_callback import UpdateCallback
from sb3_ppo_variants.checkpoints.run_state import named_callbacks
from sb3_ppo_variants.update.controllers import BandController
from sb3_ppo_variants.update.scaled_schedule import CLIP_RANGES, ScaledSchedule, unscale, unscaled


class ClipRangeFromClipFraction(UpdateCallback):
    """Moves the clip range so that the share of clipped samples stays near a target.

    After an update whose clip fraction is above ``tolerance * target`` the clip range grows by ``factor``, below
    ``target / tolerance`` it shrinks. The live value is ``model.clip_scale``, a factor on the model's own
    ``clip_range`` (and ``clip_range_upper``): a schedule keeps its shape. It is saved and loaded with the model, also
    with a stock one.

    - ``PPOAdaptiveClip`` and its siblings: the callback takes the place of the KL, which moves nothing and, with
      ``max_kl="target"``, stops nothing while the callback is in use.
    - Every other class with a clip, stock ones too: ``clip_range`` is replaced during the update only. A saved model
      holds the one it was made with, and can be used without the callback.

    :param target: clip fraction to aim for, in (0, 1)
    :param tolerance: half-width of the band around it as a factor, > 1
    :param factor: size of one step of the clip range, finite and > 1; larger reacts faster and oscillates more
    :param clip_range_bounds: smallest and largest clip range in use; None for (0.01, 1) or, with ``PPOAdaptiveClip``,
        the model's own
    :param verbose: as in SB3
    :raises ValueError: for a value outside its range; before training, for an algorithm without clip
    """

    needs = "clip_range"

    def __init__(
        self,
        target: float = 0.2,
        tolerance: float = 1.5,
        factor: float = 1.5,
        clip_range_bounds: tuple[float, float] | None = None,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        ok = checks.is_number(target) and 0 < target < 1
        checks.require(ok, "`target` must be in (0, 1)", target, "0.1 to 0.4 is usual")
        checks.check_above_one("tolerance", tolerance, "1.5 is the default")
        checks.check_above_one("factor", factor, "1.5 is the default")
        self.clip_range_bounds = clip_range_bounds
        if clip_range_bounds is not None:
            checks.check_bounds(self, "clip_range_bounds")
        self.target = target
        self.controller = BandController(tolerance, factor)
        self._replaced: dict[str, Any] = {}

    def _on_training_start(self) -> None:
        super()._on_training_start()
        model: Any = self.model
        unscale(model)
        self._check_model()
        listed = [one for _, one in named_callbacks(self.locals["callback"]) if isinstance(one, type(self))]
        rule = "one training must have one ClipRangeFromClipFraction"
        checks.require(
            len(listed) < 2, rule, len(listed), "leave the others out: each would scale what the last has scaled"
        )
        if isinstance(model, AdaptiveClipMixin):
            model.steered_from_outside = True
        elif not hasattr(model, "clip_scale"):
            model.clip_scale = 1.0  # SB3 saves it with the model

    def _check_model(self) -> None:
        model: Any = self.model
        values = {schedule_value("clip_range", model.clip_range, progress) for progress in (1.0, 0.5, 0.0)}
        checks.require(
            math.inf not in values,
            "ClipRangeFromClipFraction needs a clip",
            f"{type(model).__name__} with clip_range=None",
            "pass a clip_range, or leave the callback out",
        )
        if isinstance(model, AdaptiveClipMixin):
            rule = "`clip_range_bounds` must be left to the model, which has its own"
            checks.require(self.clip_range_bounds is None, rule, self.clip_range_bounds, "pass them to the model")
            return
        low, high = self._bounds()
        checks.require(
            len(values) > 1 or low <= min(values) <= high,  # a schedule may leave the bounds
            f"the model's `clip_range` must lie within clip_range_bounds = {(low, high)}",
            min(values),
            "widen the bounds",
        )

    def _bounds(self) -> tuple[float, float]:
        if isinstance(self.model, AdaptiveClipMixin):
            return self.model.clip_range_bounds
        return self.clip_range_bounds or (0.01, 1.0)

    def _on_rollout_end(self) -> None:
        """Scale what the update that follows goes by."""
        model: Any = self.model
        if isinstance(model, AdaptiveClipMixin):
            return
        given = {name: getattr(model, name, None) for name in CLIP_RANGES}
        self._replaced = {name: value for name, value in given.items() if value is not None}
        for name, value in self._replaced.items():
            setattr(model, name, ScaledSchedule(value, model.clip_scale, self._bounds()))

    def _look(self) -> None:
        for name, value in self._replaced.items():
            setattr(self.model, name, value)
        self._replaced = {}
        super()._look()

    def _on_update(self, logged: Mapping[str, Any]) -> None:
        fraction = self.read(logged, "train/clip_fraction")
        if fraction is None or not math.isfinite(fraction):
            return
        model: Any = self.model
        if not isinstance(model, AdaptiveClipMixin):  # which logs its own
            self.logger.record("train/clip_scale", model.clip_scale)
        adjustment = self.controller.rescale(
            model.clip_scale, current_clip_range(model), fraction, self.target, self._bounds(), tightens="up"
        )
        model.clip_scale = adjustment.value
        self.logger.record("train/saturated", float(adjustment.saturated))


def current_clip_range(model: OnPolicyAlgorithm) -> float:
    """Return a model's own clip range at its current progress, before any scaling; infinity without a clip.

    :param model: with a ``clip_range``
    """
    value: Any = model.clip_range  # type: ignore[attr-defined]  # the callback's `needs`
    return schedule_value("clip_range", unscaled(value), model._current_progress_remaining)


__all__ = ["ClipRangeFromClipFraction", "ScaledSchedule", "current_clip_range"]

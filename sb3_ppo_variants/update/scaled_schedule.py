"""A clip range that is scaled from outside for the time of an update."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.type_aliases import Schedule

from sb3_ppo_variants.arguments.schedules import schedule_value
from sb3_ppo_variants.update.controllers import within

CLIP_RANGES = ("clip_range", "clip_range_upper")


@dataclass(frozen=True)
class ScaledSchedule:
    """A schedule times a factor, kept within bounds.

    Its pickle is that of the schedule: a model that is saved while it is steered holds what it was made with.

    :param base: number or schedule
    :param scale: factor on it
    :param bounds: smallest and largest value
    """

    base: float | Schedule
    scale: float
    bounds: tuple[float, float]

    def __call__(self, progress_remaining: float) -> float:
        base = schedule_value("clip_range", self.base, progress_remaining)
        return within(self.scale * base, self.bounds)

    def __reduce__(self) -> tuple[Any, ...]:
        return copy.copy, (self.base,)


def unscale(model: Any) -> None:
    """Give a model its own clip ranges back, should an update that was broken off have left scaled ones.

    :param model: of any class
    """
    for name in CLIP_RANGES:
        if hasattr(model, name):
            setattr(model, name, unscaled(getattr(model, name)))


def unscaled(schedule: Any) -> Any:
    """Undo a scaling, also where SB3 has wrapped it since.

    :param schedule: of a clip range; None for none
    """
    inner = getattr(schedule, "value_schedule", schedule)
    return inner.base if isinstance(inner, ScaledSchedule) else schedule


__all__ = ["CLIP_RANGES", "ScaledSchedule", "unscale", "unscaled"]

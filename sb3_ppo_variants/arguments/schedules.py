"""Arguments that may be a schedule: a function of the progress that remains, from 1 to 0."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from stable_baselines3.common.utils import FloatSchedule

from sb3_ppo_variants.arguments.checks import require

_Known: TypeAlias = dict[str, tuple[Any, float, Any]]
_MAY_BE_SCHEDULES = (
    *("learning_rate", "clip_range", "clip_range_upper", "clip_range_vf"),
    *("ent_coef", "vf_coef", "target_kl"),
)


def check_schedules(model: object) -> None:
    """Refuse a schedule that takes something else than one number; it is not called here, as it may count its calls.

    :param model: whose attributes are checked
    :raises ValueError: naming the argument
    """
    for name in _MAY_BE_SCHEDULES:
        schedule = _given(getattr(model, name, None))
        if callable(schedule):
            rule = f"`{name}` must be a number, or a schedule with one argument, the progress that remains"
            require(_takes_one_number(schedule), rule, schedule, "write lambda progress: ...")


def _given(value: Any) -> Any:
    """Take off SB3's wrapper, which fails without naming the argument."""
    return value.value_schedule if isinstance(value, FloatSchedule) else value


def _takes_one_number(function: Any) -> bool:
    try:
        inspect.signature(function).bind(1.0)
    except TypeError:
        return False
    except ValueError:
        pass  # a builtin may have no signature
    return True


def schedule_value(name: str, value: Any, progress: float, known: _Known | None = None) -> float:
    """Evaluate an argument that may be a schedule.

    :param name: of the argument
    :param value: the argument
    :param progress: share of the training that is left
    :param known: of one update: a schedule that has been asked in it is not asked again, as it may count or draw
    :return: its value, whatever that is as a number
    :raises TypeError: if the schedule returns no number; ValueError for text
    """
    schedule = _given(value)
    number = _asked_once(name, schedule, progress, known) if callable(schedule) else schedule
    try:
        return float(number)
    except (TypeError, ValueError) as error:
        rule = f"`{name}` must be a number, or a schedule that returns one"
        way_out = "return a float from it" if callable(schedule) else "pass a float"
        raise type(error)(f"{rule}, got {number!r} at progress_remaining = {progress:.3f}; {way_out}") from error


@contextmanager
def checked_rate(model: Any, optimizers: Any) -> Iterator[None]:
    """Refuse a learning rate that is none once SB3 has set it; asked before, a schedule would be asked once too often.

    :param model: with a method ``scheduled``
    :param optimizers: one or a list; they keep the rate that they had if the new one is refused
    """
    groups = [g for one in (optimizers if isinstance(optimizers, list) else [optimizers]) for g in one.param_groups]
    before = [group["lr"] for group in groups]
    try:
        yield
        for group in groups:
            model.scheduled("learning_rate", group["lr"], finite=True)
    except (TypeError, ValueError):
        for group, rate in zip(groups, before):
            group["lr"] = rate
        model.scheduled("learning_rate", model.lr_schedule, finite=True)  # names it
        raise


def _asked_once(name: str, schedule: Any, progress: float, known: _Known | None) -> Any:
    if known is None:
        return schedule(progress)
    if name not in known or known[name][0] is not schedule or known[name][1] != progress:
        known[name] = schedule, progress, schedule(progress)
    return known[name][2]


__all__ = ["check_schedules", "checked_rate", "schedule_value"]

"""Settings of a model as plain data: what JSON can hold, and what can be made of it again without running foreign code.

Numbers, text, None and lists stand for themselves. Everything else is a dictionary with one key, the name of its kind.
Classes are looked up in a fixed list; nothing is ever imported by name.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable import buffers as maskable_buffers
from sb3_contrib.common.maskable import policies as maskable_policies
from sb3_contrib.common.recurrent import buffers as recurrent_buffers
from sb3_contrib.common.recurrent import policies as recurrent_policies
from stable_baselines3.common import buffers, policies, torch_layers
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_ppo_variants import extractors


def to_plain(value: Any) -> Any:
    """Describe a value in plain data.

    :param value: a setting of a model
    :return: for :func:`from_plain`
    :raises TypeError: if it has no plain form
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, type) and _CLASSES.get(_name(value)) is value:
        return {"class": _name(value)}
    kind = type(value).__name__
    # By name: importing rl_zoo3 for its schedule would patch Gymnasium. Both are lines to zero.
    if _name(type(value)) == "rl_zoo3.utils.SimpleLinearSchedule":
        return {"LinearSchedule": [float(value.initial_value), 0.0, 1.0]}
    if kind not in _KINDS or type(value) is not _KINDS[kind].type:
        raise TypeError(f"{type(value).__module__}.{kind} has no plain form")
    return {kind: _KINDS[kind].parts(value)}


def from_plain(plain: Any) -> Any:
    """Make the value again.

    :param plain: from :func:`to_plain`, or from a file that nobody vouches for
    :raises ValueError: if it describes nothing that this module knows
    """
    if isinstance(plain, list):
        return [from_plain(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        kind, parts = next(iter(plain.items()))
        if kind == "class" and isinstance(parts, str) and parts in _CLASSES:
            return _CLASSES[parts]
        if kind in _KINDS:
            try:
                return _KINDS[kind].make(parts)
            except (TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError) as error:
                raise ValueError(f"not a {kind}: {parts!r}") from error
    raise ValueError(f"not plain data of this package: {plain!r}")


class _Kind:
    """How values of one type are taken apart and put together."""

    def __init__(self, type_: type, parts: Callable[[Any], Any], make: Callable[[Any], Any]):
        self.type = type_
        self.parts = parts
        self.make = make


def _bound(bound: np.ndarray[Any, Any]) -> Any:
    """Give one number where all are equal: an image's bounds would be a long list."""
    uniform = bound.size > 0 and bool((bound == bound.flat[0]).all())
    return bound.flat[0].item() if uniform else bound.tolist()


def _make_box(parts: Any) -> spaces.Box:
    low, high, shape, name = parts
    dtype = np.dtype(str(name))
    bounds = [np.broadcast_to(np.array(bound, dtype), tuple(shape)) for bound in (low, high)]
    return spaces.Box(bounds[0], bounds[1], dtype=dtype.type)


def _make_dict(parts: Any) -> dict[str, Any]:
    return {str(key): from_plain(item) for key, item in parts.items()}


def _of_discrete(space: spaces.Discrete) -> list[Any]:
    usual = [int(space.n), int(space.start)]
    return usual if space.dtype == np.int64 else [*usual, str(space.dtype)]


def _make_discrete(parts: Any) -> spaces.Discrete:
    n, start, *dtype = parts
    made = spaces.Discrete(n, start=start)
    if dtype:  # set as gymnasium since 1.2 would: older versions take no argument for it
        made.dtype = np.dtype(str(dtype[0]))
        made.n, made.start = made.dtype.type(n), made.dtype.type(start)
    return made


_KINDS: dict[str, _Kind] = {
    "dict": _Kind(dict, lambda d: {_text(key): to_plain(item) for key, item in d.items()}, _make_dict),
    "tuple": _Kind(tuple, lambda t: [to_plain(item) for item in t], lambda parts: tuple(map(from_plain, parts))),
    "Box": _Kind(spaces.Box, lambda s: [_bound(s.low), _bound(s.high), list(s.shape), str(s.dtype)], _make_box),
    "Discrete": _Kind(spaces.Discrete, _of_discrete, _make_discrete),
    "MultiDiscrete": _Kind(
        spaces.MultiDiscrete,
        lambda s: [s.nvec.tolist(), s.start.tolist(), str(s.dtype)],
        lambda p: spaces.MultiDiscrete(np.array(p[0]), np.dtype(str(p[2])).type, start=np.array(p[1])),
    ),
    "MultiBinary": _Kind(spaces.MultiBinary, lambda s: np.array(s.n).tolist(), spaces.MultiBinary),
    "Dict": _Kind(
        spaces.Dict,
        lambda s: [[_text(key), to_plain(part)] for key, part in s.spaces.items()],
        lambda p: spaces.Dict([(str(key), from_plain(part)) for key, part in p]),  # a dictionary would be sorted
    ),
    "FloatSchedule": _Kind(
        FloatSchedule, lambda s: to_plain(s.value_schedule), lambda p: FloatSchedule(_schedule_or_number(p))
    ),
    "ConstantSchedule": _Kind(ConstantSchedule, lambda s: float(s.val), lambda p: ConstantSchedule(float(p))),
    "LinearSchedule": _Kind(
        LinearSchedule,
        lambda s: [float(s.start), float(s.end), float(s.end_fraction)],
        lambda p: LinearSchedule(*map(float, p)),
    ),
}


def _schedule_or_number(plain: Any) -> Any:
    value = from_plain(plain)
    return value if callable(value) and not isinstance(value, type) else float(value)


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys must be text, got {key!r}")
    return key


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _classes_of(module: Any, base: type) -> list[type]:
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, base)]
    return [cls for cls in found if cls.__module__ == module.__name__]


_ACTIVATIONS = [getattr(th.nn, name) for name in th.nn.modules.activation.__all__]
_OPTIMIZERS = [th.optim.Adam, th.optim.AdamW, th.optim.NAdam, th.optim.RAdam, th.optim.RMSprop, th.optim.SGD]
_CLASSES: dict[str, type] = {
    _name(cls): cls
    for cls in (
        *_ACTIVATIONS,
        *(*_OPTIMIZERS, RMSpropTFLike),
        *_classes_of(torch_layers, torch_layers.BaseFeaturesExtractor),
        *_classes_of(extractors, torch_layers.BaseFeaturesExtractor),
        *_classes_of(policies, policies.BasePolicy),
        *_classes_of(recurrent_policies, policies.BasePolicy),
        *_classes_of(maskable_policies, policies.BasePolicy),
        *_classes_of(buffers, buffers.RolloutBuffer),
        *_classes_of(recurrent_buffers, buffers.RolloutBuffer),
        *_classes_of(maskable_buffers, buffers.RolloutBuffer),
    )
}


__all__ = ["from_plain", "to_plain"]

"""Reading what a gymnasium vector environment gives: arrays of any library, and infos that hold all environments."""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, SupportsIndex, overload

import numpy as np

Info = dict[str, Any]
_CONTAINERS = (list, dict, set)
_FINAL = ("final_obs", "final_observation", "final_info", "episode")  # ours to tell, in SB3's words


def as_array(values: Any, dtype: Any = None) -> Any:
    """Copy an array of numpy, torch or JAX, or a dictionary of them, into numpy's: simulators write into theirs again.

    :param values: on any device
    :param dtype: of the result; None for the same
    """
    if isinstance(values, Mapping):
        return {key: as_array(value, dtype) for key, value in values.items()}
    return np.array(on_host(values), dtype=dtype)


def on_host(values: Any) -> Any:
    """Bring tensors to where numpy reads them, once for all rows; no copy of what is there.

    :param values: array of any library, or dictionary of arrays
    """
    if isinstance(values, Mapping):
        return {key: on_host(value) for key, value in values.items()}
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def row_of(values: Any, index: int) -> Any:
    """Take one environment's part of what is there for all; as copies.

    :param values: array of shape (n_envs, ...), list of one object for each environment, or dictionary of such
    :param index: of the environment
    """
    if isinstance(values, Mapping):
        return {key: row_of(value, index) for key, value in values.items()}
    row = values[index]
    if isinstance(row, Mapping) or hasattr(row, "detach") or hasattr(row, "__array__"):
        return as_array(row)
    return row


def has_rows(values: Any, n_envs: int) -> bool:
    """Tell whether there is a row, or an object, for each environment.

    :param values: array of any library, list, or what is the same for all
    :param n_envs: how many environments there are
    """
    is_sized = hasattr(values, "__len__") and getattr(values, "ndim", 1) > 0  # an array without axes has no length
    return is_sized and not isinstance(values, (str, Mapping)) and len(values) == n_envs


def info_of(infos: Mapping[str, Any], index: int, n_envs: int) -> Info:
    """Take one environment's info out of a vector environment's, where ``_key`` says which have a value of ``key``.

    :param infos: of all environments
    :param index: of the environment
    :param n_envs: how many there are; what is not there for each of them belongs to none
    """
    info: Info = {}
    for key, values in infos.items():
        if (key.startswith("_") and key[1:] in infos) or key in _FINAL:
            continue
        mask = infos.get(f"_{key}")
        if mask is not None and not mask[index]:
            continue
        if isinstance(values, Mapping):
            nested = info_of(values, index, n_envs)
            if nested:
                info[key] = nested
        elif isinstance(values, np.ndarray) and values.shape == (n_envs,) and values.dtype != object:
            info[key] = values.item(index)
        elif has_rows(values, n_envs):
            value = row_of(values, index)
            info[key] = value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value
    return info


def by_name(infos: Iterable[Any]) -> dict[str, Any]:
    """Turn infos of single environments into one of all.

    :param infos: a dictionary or None of each environment
    """
    of_each = [info if isinstance(info, Mapping) else {} for info in infos]
    of_all: dict[str, Any] = {}
    for name in dict.fromkeys(name for info in of_each for name in info):
        values = [info.get(name) for info in of_each]
        of_all[name] = by_name(values) if any(isinstance(value, Mapping) for value in values) else values
        of_all[f"_{name}"] = np.array([name in info for info in of_each])
    return of_all


def rows_of(infos: Mapping[str, Any], n_envs: int, own_objects: bool = True) -> dict[str, Any]:
    """Copy what :func:`info_of` reads, to be read later: simulators write into their arrays again.

    :param infos: of all environments
    :param n_envs: how many there are
    :param own_objects: whether the lists and dictionaries in it are the environments' own, which go on filling them
    """
    rows: dict[str, Any] = {}
    for key, values in infos.items():
        if key in _FINAL or (key.startswith("_") and key[1:] in _FINAL):
            continue
        if isinstance(values, Mapping):
            rows[key] = rows_of(values, n_envs, own_objects)
        else:
            rows[key] = _copy(values, own_objects) if has_rows(values, n_envs) else None
    return rows


def _copy(values: Any, own_objects: bool) -> Any:
    """Copy an array that can be written into; JAX's cannot."""
    if hasattr(values, "detach"):
        return values.detach().clone()
    if not isinstance(values, (np.ndarray, list)):
        return values
    copied = values.copy()
    if own_objects and isinstance(copied, np.ndarray) and copied.dtype == object:
        for place, value in enumerate(copied.flat):
            if type(value) in _CONTAINERS:
                with suppress(Exception):  # what is in it may have no copy, as a lock
                    copied.flat[place] = copy.deepcopy(value)
    return copied


class LazyInfos(list[Info]):
    """SB3's list of one info for each environment, each of which is made when somebody asks for it.

    :param n_envs: how many
    :param make: of the number of an environment
    """

    def __init__(self, n_envs: int, make: Callable[[int], Info]):
        super().__init__([{}] * n_envs)
        self._make = make
        self._made, self._whole = [False] * n_envs, False

    def _make_all(self) -> None:
        for place in range(len(self)):
            self[place]
        self._whole = True

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Info: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[Info]: ...
    def __getitem__(self, index: SupportsIndex | slice, /) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(len(self))[index]
        if not (self._whole or self._made[place]):
            self[place] = self._make(place)
        return super().__getitem__(place)

    def __setitem__(self, index: Any, info: Any) -> None:
        if isinstance(index, slice):
            self._make_all()
        super().__setitem__(index, info)
        if not self._whole:
            self._made[index] = True

    def __iter__(self) -> Iterator[Info]:
        place = 0
        while place < len(self):  # which may become shorter meanwhile
            yield self[place]
            place += 1

    def __reversed__(self) -> Iterator[Info]:
        return (self[place] for place in reversed(range(len(self))))

    def __contains__(self, info: object) -> bool:
        return info in list(self)

    def index(self, info: Info, /, *bounds: Any) -> int:
        return list(self).index(info, *bounds)

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    def __ne__(self, other: object) -> bool:
        return list(self) != other

    def __repr__(self) -> str:
        return repr(list(self))

    def __add__(self, other: list[Any]) -> list[Any]:
        return list(self) + other

    def __radd__(self, other: list[Any]) -> list[Any]:
        return other + list(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as a plain list: what makes an info belongs to the environment."""
        return list, (list(self),)

    def copy(self) -> list[Info]:
        return list(self)


def _of_a_list(name: str) -> Callable[..., Any]:
    """Make a method that does what a list's does, once all infos are there."""
    method = getattr(list, name)

    @functools.wraps(method)
    def done(self: LazyInfos, *args: Any, **kwargs: Any) -> Any:
        self._make_all()
        return method(self, *args, **kwargs)

    return done


for _name in (
    *("append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort", "count"),
    *("__delitem__", "__iadd__", "__mul__", "__rmul__", "__imul__"),
):
    setattr(LazyInfos, _name, _of_a_list(_name))


__all__ = ["LazyInfos", "as_array", "by_name", "has_rows", "info_of", "on_host", "row_of", "rows_of"]

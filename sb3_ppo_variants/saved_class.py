"""Which class a saved model is of, as SB3's files do not say."""

import inspect
import io
import json
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import open_path

ModelFile = str | pathlib.Path | io.BufferedIOBase

_NOT_SAVED = {"policy", "env", "device", "stats_window_size", "_init_setup_model"}


class _Saved(NamedTuple):
    attributes: set[str]
    policy_module: str | None


def check_saved_class(cls: type[BaseAlgorithm], path: ModelFile) -> None:
    """Refuse a file that holds a model of another class; loading it would leave arguments and state at odds.

    :param cls: expected
    :param path: of the file, or the open file
    :raises ValueError: naming the class that the file holds
    """
    held = saved_class(path, expected=cls)
    if held is not cls:
        raise ValueError(
            f"the file must hold a model of {cls.__name__}, got one of {held.__name__} in {path}; load it with "
            f"{held.__name__}.load, or take over its network only with {cls.__name__}(...).set_parameters"
        )


def saved_class(path: ModelFile, expected: type[BaseAlgorithm]) -> type[BaseAlgorithm]:
    """Tell the class by the attributes and the policy that were saved, among all algorithms that are imported.

    The best match counts, so that a file of an older version, in which an argument is missing, is still recognised.

    :param path: of the file, or the open file
    :param expected: class that wins a tie; returned for a file without readable attributes too, on which `load` fails
    """
    saved = _read(path)
    if saved is None:
        return expected
    algorithms = _algorithms(BaseAlgorithm)  # type: ignore[type-abstract]  # only its subclasses are used
    return max([expected, *algorithms], key=lambda cls: _match(cls, saved))


def _read(path: ModelFile) -> _Saved | None:
    file: Any = open_path(path, "r", suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            data = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError):
        return None
    finally:
        if not isinstance(path, io.BufferedIOBase):
            file.close()
    policy = data.get("policy_class")
    return _Saved(set(data), policy.get("__module__") if isinstance(policy, dict) else None)


def _algorithms(base: type[BaseAlgorithm]) -> Iterator[type[BaseAlgorithm]]:
    """Yield what can be trained under a class, those nearer to it first within a branch."""
    for cls in base.__subclasses__():
        if cls.policy_aliases:
            yield cls
        yield from _algorithms(cls)


def _match(cls: type[BaseAlgorithm], saved: _Saved) -> tuple[bool, int]:
    arguments = set(inspect.signature(cls).parameters) - _NOT_SAVED
    policies = {policy.__module__ for policy in cls.policy_aliases.values()}
    found = len(arguments & saved.attributes)
    return saved.policy_module in policies, found - len(arguments - saved.attributes)


__all__ = ["ModelFile", "check_saved_class", "saved_class"]

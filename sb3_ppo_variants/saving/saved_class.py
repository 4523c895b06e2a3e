"""Which class a saved model is of: our files say it, those of Stable-Baselines3 do not."""

import inspect
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import open_path

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.arguments.signatures import subclasses

_NOT_SAVED = {"policy", "env", "device", "stats_window_size", "_init_setup_model"}


def check_saved_class(cls: type[BaseAlgorithm], data: Mapping[str, Any], name: str) -> None:
    """Refuse a model of another class; loading it would leave arguments and state at odds.

    :param cls: which loads
    :param data: the attributes that were saved
    :param name: of the file, for the message
    :raises ValueError: naming the class that the file holds
    """
    held = saved_classes(data, expected=cls)
    # A subclass may read its base's file, but a variant not its host's: that lacks the variant's arguments.
    bases = [base.__name__ for base in cls.__mro__] if "saved_as" in data else []
    related = cls.__name__ in held or held[0] in bases
    take_over = f"{cls.__name__}(...).set_parameters"
    way_out = f"load it with {_spelled_out(held[0])}.load, or take over its networks and optimiser with {take_over}"
    require(related, f"{name} must hold a model of {cls.__name__}", held[0], way_out)


def _spelled_out(name: str) -> str:
    """Add the package to the name of a library's class: a script may have ours under the same name."""
    packages = (package for package in (stable_baselines3, sb3_contrib) if hasattr(package, name))
    return next((f"{package.__name__}.{name}" for package in packages), name)


def saved_classes(data: Mapping[str, Any], expected: type[BaseAlgorithm]) -> list[str]:
    """Name the class of a saved model, with its bases if the file says them.

    A file that does not say its class is told by the attributes and the policy that were saved, among all algorithms
    that are imported. The best match counts, so that a file of an older version, in which an argument is missing, is
    still recognised.

    :param data: the attributes that were saved
    :param expected: class that wins a tie
    """
    saved_as = data.get("saved_as")
    if isinstance(saved_as, dict):
        classes = saved_as.get("classes")
        return classes if isinstance(classes, list) and classes else ["?"]
    algorithms = [one for one in subclasses(BaseAlgorithm) if one.policy_aliases]
    return [max([expected, *algorithms], key=lambda cls: _match(cls, data)).__name__]


def saved_attributes(path: str) -> dict[str, Any]:
    """Read the attributes of a saved model of any algorithm, as JSON holds them; none if the file is no such model.

    :param path: of the file
    :raises FileNotFoundError: if there is none
    """
    with open_path(path, "r", suffix="zip") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                data = json.loads(archive.read("data"))
        except (zipfile.BadZipFile, KeyError, ValueError):
            return {}  # SB3 says what is wrong with it
    return data if isinstance(data, dict) else {}


def _match(cls: type[BaseAlgorithm], data: Mapping[str, Any]) -> tuple[bool, int]:
    policy = data.get("policy_class")
    module = policy.get("__module__") if isinstance(policy, dict) else None
    arguments = set(inspect.signature(cls).parameters) - _NOT_SAVED
    found = len(arguments & data.keys())
    return module in {policy.__module__ for policy in cls.policy_aliases.values()}, found - len(arguments - data.keys())


__all__ = ["check_saved_class", "saved_attributes", "saved_classes"]

"""A sweep: every arm at every value of some hyperparameters, all else as it is."""

import inspect
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sb3_ppo_variants.compare.arms import Arm, read_literal

Axes = dict[str, list[Any]]
"""Values by hyperparameter, in the order given."""

_VALUE = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class SweptArm:
    """An arm at one point of a sweep.

    :param arm: label of the arm as it was given
    :param values: of the hyperparameters that are swept; without those that its algorithm does not have
    """

    arm: str
    values: dict[str, Any]


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are one, as 1e-3 and 0.001 are; True is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def read_axes(texts: Sequence[Sequence[str]]) -> Axes:
    """Read what follows each ``--sweep`` on the command line.

    :param texts: ``[KEY, VALUE, VALUE, ...]`` each
    :raises ValueError: for less than two values, one given twice, a key given twice, or a value that is no name or
        number
    """
    axes: Axes = {}
    for key, *values in texts:
        if key == "n_timesteps":
            raise ValueError("--sweep n_timesteps: all get the same number of steps; give it as --n-timesteps")
        if key in axes:
            raise ValueError(f"--sweep {key} is given twice; give all its values at once")
        read = [read_literal(value) for value in values]
        if len(read) < 2 or any(same(one, other) for one, other in itertools.combinations(read, 2)):
            raise ValueError(f"--sweep takes KEY and at least two different values; got {' '.join([key, *values])!r}")
        if bad := [value for value in values if not _VALUE.fullmatch(value)]:
            raise ValueError(f"--sweep {key} takes numbers or names, such as 1e-3, None or lin_3e-4; got {bad[0]!r}")
        axes[key] = read
    return axes


def expand(arms: Sequence[Arm], axes: Axes) -> tuple[list[Arm], dict[str, SweptArm]]:
    """Multiply arms by the points of a sweep.

    An algorithm without one of the hyperparameters, such as TRPO without ``n_epochs``, has no points along it.

    :param arms: as they were given
    :param axes: what is swept
    :return: the arms at every point, and what each label stands for
    :raises ValueError: for a hyperparameter that no arm has, or that an arm sets itself
    """
    known = {arm.label: [key for key in axes if _has(arm.algo, key)] for arm in arms}
    for key in axes:
        if not any(key in keys for keys in known.values()):
            raise ValueError(f"--sweep {key}: none of the algorithms has this hyperparameter")
        if setting := [arm.label for arm in arms if key in arm.overrides]:
            raise ValueError(f"--sweep {key}: {', '.join(setting)} sets it already; leave out one of the two")
    expanded: dict[str, Arm] = {}
    swept: dict[str, SweptArm] = {}
    for arm in arms:
        for point in itertools.product(*(axes[key] for key in known[arm.label])):
            values = dict(zip(known[arm.label], point))
            label = f"{arm.label}@{setting_name(values)}" if values else arm.label
            expanded[label] = replace(arm, label=label, overrides={**arm.overrides, **values})
            swept[label] = SweptArm(arm.label, values)
    return list(expanded.values()), swept


def setting_name(values: Mapping[str, Any]) -> str:
    """Write the point of a sweep briefly.

    :param values: by hyperparameter

    >>> setting_name({"learning_rate": 0.001, "n_epochs": 10})
    'learning_rate=0.001,n_epochs=10'
    """
    return ",".join(f"{key}={value}" for key, value in values.items())


def _has(algo: str, key: str) -> bool:
    """Say whether an algorithm takes a hyperparameter; those of the zoo itself, such as n_envs, all take."""
    from rl_zoo3 import ALGOS

    parameters = inspect.signature(ALGOS[algo]).parameters
    return key in parameters or not any(key in inspect.signature(cls).parameters for cls in ALGOS.values())


__all__ = ["Axes", "SweptArm", "expand", "read_axes", "same", "setting_name"]

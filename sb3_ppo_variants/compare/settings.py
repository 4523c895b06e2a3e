"""Hyperparameters of an arm on an environment, as rl-zoo3 resolves them, and where they come from."""

import argparse
import contextlib
import inspect
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from sb3_ppo_variants.arguments.hints import closest, did_you_mean
from sb3_ppo_variants.compare.arms import Arm
from sb3_ppo_variants.zoo import ADDED
from sb3_ppo_variants.zoo.hyperparameters import check_keys

PRESET_FILES = Path(__file__).parent / "conf"
"""Folder of the hyperparameter files of the presets."""


@dataclass(frozen=True)
class ResolvedSettings:
    """Hyperparameters and their source.

    :param hyperparameters: in plain values, the arm's overrides applied
    :param file: name of the YAML file they come from
    :param key: its entry, such as ``CartPole-v1`` or ``default``
    :param kind: ``"tuned"`` for an entry of this environment in the algorithm's own file, ``"of another algorithm"``
        for one in another's file, ``"general"`` for a default or Atari entry, ``"given"`` if the file was given
    :param overrides: what the arm changes
    """

    hyperparameters: dict[str, Any]
    file: str
    key: str
    kind: str
    overrides: dict[str, Any]


def check_names(arms: Iterable[Arm], envs: Iterable[str]) -> None:
    """Check that algorithms and environments exist.

    :raises ValueError: naming the closest match of one that does not
    """
    from rl_zoo3 import ALGOS

    for arm in arms:
        _require_known(arm.algo, ALGOS, "algorithm")
        if arm.conf_file is not None:
            _require_entries(Path(arm.conf_file))
    for env in envs:
        _require_known(env, gym.registry, "environment", " (one of your own is registered by a custom_envs.py)")


def resolve(arm: Arm, env: str) -> ResolvedSettings:
    """Let rl-zoo3 find the hyperparameters.

    :param arm: algorithm, overrides, file
    :param env: environment ID
    :raises ValueError: if its file has none for the environment, they are no plain values, or the class does not have
        the policy
    """
    from sb3_ppo_variants.zoo.experiment_manager import VariantExperimentManager

    manager = VariantExperimentManager(
        argparse.Namespace(), arm.algo, env, "", config=arm.conf_file, hyperparams=arm.overrides, verbose=0
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints them
            _, hyperparameters = manager.read_hyperparameters()
        plain = json.loads(json.dumps(dict(hyperparameters)))
        plain["n_timesteps"] = plain["n_timesteps"]  # the zoo asks for it
        check_keys(arm.algo, arm.overrides, f"{arm.label}, -params or --sweep")  # of ours the manager has done so
    except KeyError as error:  # of an Atari game the zoo takes the entry atari, and does not look for it
        raise ValueError(f"{manager.config} has no {error} for {env}; give another file with --conf-file") from error
    except TypeError as error:
        raise ValueError(
            f"{manager.config}: {error}; a comparison needs hyperparameters in plain YAML values"
        ) from error
    _check_policy(arm, plain.get("policy"))
    config = Path(manager.config)
    key = _entry(config, env)
    return ResolvedSettings(plain, _name(config, arm), key, _kind(arm, env, config, key), arm.overrides)


def _check_policy(arm: Arm, policy: Any) -> None:
    """Refuse a policy that the class does not have, such as that of the zoo's general entry for ``ppo_lstm``."""
    from rl_zoo3 import ALGOS

    known = sorted(getattr(ALGOS[arm.algo], "policy_aliases", ()))
    if known and policy not in known:
        label = arm.label.partition("@")[0]  # of a sweep's point that of the arm
        raise ValueError(
            f"{arm.algo} has no policy {policy!r}; choose from {', '.join(known)}, as with "
            f"-params {label}:policy:{closest(str(policy), known)}"
        )


def smallest_budget(algo: str, hyperparameters: dict[str, Any]) -> int:
    """Return the least number of steps with which an algorithm makes an update, as a run ends at its last step.

    :param algo: its name in rl-zoo3
    :param hyperparameters: in rl-zoo3's sense; what they leave out has the class's default
    :raises ValueError: for a count that is no number
    """
    from rl_zoo3 import ALGOS

    parameters = inspect.signature(ALGOS[algo]).parameters

    def given(name: str, read: Callable[[Any], int] = int) -> int:
        value = hyperparameters.get(name, parameters[name].default if name in parameters else 1)
        try:
            return read(value)
        except (TypeError, ValueError):
            raise ValueError(f"{algo}: `{name}` must be a whole number, got {value!r}") from None

    if "n_steps" in parameters and "learning_starts" not in parameters:  # there n_steps is of the returns
        return given("n_steps") * given("n_envs") + 1
    if "learning_starts" not in parameters:
        return 1
    rollout = given("train_freq", _steps_between_updates) * given("n_envs")
    return (given("learning_starts") // rollout + 1) * rollout + 1


def _steps_between_updates(train_freq: Any) -> int:
    """Read an off-policy algorithm's ``train_freq``: a number of steps, or with a unit; episodes may have one step."""
    count, unit = train_freq if isinstance(train_freq, (tuple, list)) else (train_freq, "step")
    return int(count) if unit == "step" else 1


def _require_known(name: str, known: Iterable[str], what: str, remark: str = "") -> None:
    if name not in (names := list(known)):
        raise ValueError(f"unknown {what} {name!r}{remark}{did_you_mean(name, names)}")


def _require_entries(file: Path) -> None:
    if not file.is_file():
        raise ValueError(f"no such file: {file}; --conf-file takes LABEL:FILE, or FILE for all arms")
    try:
        entries = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{file} must have an entry of hyperparameters for each environment, as rl-zoo3's files have")


def _entry(config: Path, env: str) -> str:
    """Return the entry that the zoo takes: of the environment, else atari or default."""
    entries = yaml.safe_load(config.read_text())
    return env if env in entries else "atari" if "AtariEnv" in str(gym.spec(env).entry_point) else "default"


def _kind(arm: Arm, env: str, config: Path, key: str) -> str:
    if arm.conf_file is not None:
        return "given"
    if key != env:
        return "general"
    return "tuned" if config.stem == arm.algo or config == ADDED.get(arm.algo) else "of another algorithm"


def _name(config: Path, arm: Arm) -> str:
    """Return a file's name, with the package that it belongs to in place of where that is installed."""
    given = arm.conf_file
    if config == ADDED.get(arm.algo):
        return config.name  # a file of the user's, or one written for the entries that a program gave
    if given is not None:
        return (
            given if config.parent != PRESET_FILES else f"sb3_ppo_variants/compare/{config.parent.name}/{config.name}"
        )
    package = "rl_zoo3" if "rl_zoo3" in config.parts else "sb3_ppo_variants"
    return f"{package}/hyperparams/{config.name}"


__all__ = ["PRESET_FILES", "ResolvedSettings", "check_names", "resolve", "smallest_budget"]

"""rl-zoo3 with the algorithms of this package.

``python -m sb3_ppo_variants.zoo train --algo ppo_penalty --env CartPole-v1`` is rl-zoo3's own ``train``. A launcher
script of one's own needs one line before it parses its arguments::

    import sb3_ppo_variants.zoo

    sb3_ppo_variants.zoo.register()

:func:`register_algorithm` adds a variant of one's own.
"""

import functools
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml
from sb3_contrib import MaskablePPO, RecurrentPPO

import sb3_ppo_variants as variants
from sb3_ppo_variants.algorithms.policy_update import PolicyUpdateMixin
from sb3_ppo_variants.arguments.checks import require

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

ALGORITHMS: "dict[str, type[BaseAlgorithm]]" = {
    "ppo_clip": variants.PPOClip,
    "ppo_penalty": variants.PPOPenalty,
    "ppo_adaptive_clip": variants.PPOAdaptiveClip,
    "ppo_adaptive_lr": variants.PPOAdaptiveLR,
    "ppo_clip_lstm": variants.RecurrentPPOClip,
    "ppo_penalty_lstm": variants.RecurrentPPOPenalty,
    "ppo_adaptive_clip_lstm": variants.RecurrentPPOAdaptiveClip,
    "ppo_adaptive_lr_lstm": variants.RecurrentPPOAdaptiveLR,
    "ppo_clip_mask": variants.MaskablePPOClip,
    "ppo_penalty_mask": variants.MaskablePPOPenalty,
    "ppo_adaptive_clip_mask": variants.MaskablePPOAdaptiveClip,
    "ppo_adaptive_lr_mask": variants.MaskablePPOAdaptiveLR,
}
"""The classes by the name that rl-zoo3's ``--algo`` takes; :func:`register_algorithm` adds to them."""

ADDED: dict[str, Path | None] = {}
"""Hyperparameter files of the algorithms that :func:`register_algorithm` added; None for those without."""


def host_name(algo: str) -> str:
    """Return the zoo's name of the algorithm whose entries and search space suit one of ours.

    :param algo: key of ``ALGORITHMS``
    """
    return "ppo_lstm" if is_recurrent(algo) else "ppo"  # it has no maskable algorithm


def is_recurrent(algo: str) -> bool:
    """Say whether the algorithm has LSTM policies.

    :param algo: key of ``ALGORITHMS``
    """
    return issubclass(ALGORITHMS[algo], RecurrentPPO)


def is_maskable(algo: str) -> bool:
    """Say whether the algorithm takes action masks.

    :param algo: any of the zoo's
    """
    return algo in ALGORITHMS and issubclass(ALGORITHMS[algo], MaskablePPO)


def has_clip_range(algo: str) -> bool:
    """Say whether the algorithm clips by default, so that the host's ``clip_range`` is for it.

    :param algo: key of ``ALGORITHMS``
    """
    return inspect.signature(ALGORITHMS[algo]).parameters["clip_range"].default is not None


def register_algorithm(
    name: str, cls: "type[BaseAlgorithm]", hyperparams: str | Path | Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Give a variant of one's own the zoo's commands, tuning and ``compare``.

    The place for the call is a ``custom_envs.py`` in the working folder, which the zoo imports in every process.

    :param name: for ``--algo``, log folders and reports
    :param cls: a variant on one of the three hosts
    :param hyperparams: a YAML file, or a dictionary, of entries by environment as in rl-zoo3; for environments that it
        does not list, and with None, the zoo's entries of the host serve
    :raises ValueError: for a name that is taken or no file name, another class, a file that does not exist, or an entry
        that no YAML file can hold
    """
    register()
    import rl_zoo3

    require(
        isinstance(cls, type) and issubclass(cls, PolicyUpdateMixin) and bool(cls.policy_aliases),
        "`cls` must be a variant on a host, such as class Mine(MyMixin, PPO)",
        cls,
        "put a mixin of sb3_ppo_variants.extend before the host",
    )
    valid = isinstance(name, str) and re.fullmatch(r"\w[\w.+-]*", name) and name == name.lower()
    rule = "`name` must consist of small letters, digits and _ . + -"
    require(bool(valid), rule, name, "it names a folder, which plots look for")
    require(
        name in ADDED or name not in rl_zoo3.ALGOS, "`name` must not be an algorithm of the zoo", name, "pick another"
    )
    ADDED[name] = _own_file(name, hyperparams)
    ALGORITHMS[name] = cls
    _tell_zoo(name)


def _own_file(name: str, hyperparams: str | Path | Mapping[str, Any] | None) -> Path | None:
    if isinstance(hyperparams, Mapping):
        path = Path(_written_files().name, f"{name}.yml")  # the zoo reads files only
        path.write_text("".join(_written_entry(env, entry) for env, entry in hyperparams.items()))
        return path
    if hyperparams is None:
        return None
    path = Path(hyperparams).resolve()
    require(path.is_file(), "`hyperparams` must be a YAML file or a dictionary", str(hyperparams), "no such file")
    return path


def _written_entry(env: str, entry: Any) -> str:
    rule = "`hyperparams` must map environments to dictionaries of arguments"
    require(isinstance(entry, Mapping), rule, {env: entry}, "such as {'CartPole-v1': {'n_steps': 32}}")
    for name, value in entry.items():
        try:
            yaml.safe_dump(value)
        except yaml.YAMLError:
            ways_out = (
                "take Python's own numbers, and text as in rl-zoo3's YAML: 'lin_0.2', \"dict(activation_fn=nn.ReLU)\""
            )
            require(False, f"`{name}` of {env} in `hyperparams` must be what a YAML file can hold", value, ways_out)
    text: str = yaml.safe_dump({env: dict(entry)})
    return text


@functools.cache
def _written_files() -> "TemporaryDirectory[str]":
    return TemporaryDirectory(prefix="sb3-ppo-variants-")  # gone when the process ends


def register() -> None:
    """Make rl-zoo3 know the algorithms of this package, their hyperparameter files and their search spaces.

    Calling it again changes nothing. rl-zoo3 is imported here, not with this module.
    """
    import rl_zoo3
    import rl_zoo3.exp_manager
    import rl_zoo3.utils

    from sb3_ppo_variants.zoo.masking import remembering
    from sb3_ppo_variants.zoo.played_environments import as_in_training

    if "ppo_clip" not in rl_zoo3.ALGOS:
        for name in ALGORITHMS:
            _tell_zoo(name)
        # The zoo's scripts play without action masks and the entry's env_kwargs, and offer no hook.
        create_test_env = rl_zoo3.utils.create_test_env
        _replace("create_test_env", create_test_env, remembering(as_in_training(create_test_env)))

    if hasattr(sys.modules["rl_zoo3.exp_manager"], "ExperimentManager"):
        from sb3_ppo_variants.zoo.experiment_manager import StockExperimentManager, VariantExperimentManager

        # The zoo looks for YAML files in its own folder only and offers no hook for another one.
        _replace("ExperimentManager", StockExperimentManager, VariantExperimentManager)
    # Else this was called through custom_envs.py while that very module is being imported, by a command that asks the
    # manager about environments only, such as rl_zoo3.record_video. train and enjoy import custom_envs before it.
    if "custom_envs" not in sys.modules and importlib.util.find_spec("custom_envs") is not None:
        warnings.warn(
            "custom_envs.py is left out: rl-zoo3 met an ImportError in it; python -c 'import custom_envs' shows it",
            stacklevel=2,
        )


def _tell_zoo(name: str) -> None:
    """Enter an algorithm into the zoo's dictionaries.

    They are shared by all of its modules, so they are extended in place; each command builds its parser from ALGOS when
    it is called.
    """
    import rl_zoo3.hyperparams_opt

    from sb3_ppo_variants.zoo.masking import playing
    from sb3_ppo_variants.zoo.search_spaces import convert, sample

    cls = ALGORITHMS[name]
    rl_zoo3.ALGOS[name] = playing(cls) if is_maskable(name) else cls
    optimization: Any = rl_zoo3.hyperparams_opt  # whose types demand the names of the arguments, too
    optimization.HYPERPARAMS_SAMPLER[name] = functools.partial(sample, name)
    optimization.HYPERPARAMS_CONVERTER[name] = functools.partial(convert, name)


def _replace(name: str, stock: Any, ours: Any) -> None:
    """Put ours in place of a stock object in every module of the zoo that holds it.

    The zoo's commands copy such names when they are imported: replacing one at its source serves those imported later,
    and the loop those that were imported before. A command to which somebody gave an object of their own keeps it.
    """
    for module_name, module in list(sys.modules.items()):
        is_zoo = module_name == "rl_zoo3" or module_name.startswith("rl_zoo3.")
        if is_zoo and getattr(module, name, None) is stock:
            setattr(module, name, ours)


__all__ = [
    "ADDED",
    "ALGORITHMS",
    "has_clip_range",
    "host_name",
    "is_maskable",
    "is_recurrent",
    "register",
    "register_algorithm",
]

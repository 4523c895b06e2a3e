"""rl-zoo3 with the algorithms of this package.

``python -m sb3_ppo_variants.zoo train --algo ppo_penalty --env CartPole-v1`` is rl-zoo3's own ``train``. A launcher
script of one's own needs one line before it parses its arguments::

    import sb3_ppo_variants.zoo

    sb3_ppo_variants.zoo.register()
"""

import sys
from typing import TYPE_CHECKING, Any

import sb3_ppo_variants as variants

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

ALGORITHMS: "dict[str, type[BaseAlgorithm]]" = {
    "ppo_clip": variants.PPOClip,
    "ppo_penalty": variants.PPOPenalty,
    "ppo_adaptive_clip": variants.PPOAdaptiveClip,
    "ppo_clip_lstm": variants.RecurrentPPOClip,
    "ppo_penalty_lstm": variants.RecurrentPPOPenalty,
    "ppo_adaptive_clip_lstm": variants.RecurrentPPOAdaptiveClip,
    "ppo_clip_mask": variants.MaskablePPOClip,
    "ppo_penalty_mask": variants.MaskablePPOPenalty,
    "ppo_adaptive_clip_mask": variants.MaskablePPOAdaptiveClip,
}
"""The classes by the name that rl-zoo3's ``--algo`` takes."""


def host_name(algo: str) -> str:
    """Return the zoo's name of the algorithm whose entries and search space suit one of ours.

    :param algo: key of ``ALGORITHMS``
    """
    return "ppo_lstm" if is_recurrent(algo) else "ppo"  # it has no maskable algorithm


def is_recurrent(algo: str) -> bool:
    """Say whether the algorithm has LSTM policies.

    :param algo: key of ``ALGORITHMS``
    """
    return algo.endswith("_lstm")


def is_maskable(algo: str) -> bool:
    """Say whether the algorithm takes action masks.

    :param algo: any of the zoo's
    """
    return algo in ALGORITHMS and algo.endswith("_mask")


def register() -> None:
    """Make rl-zoo3 know the algorithms of this package, their hyperparameter files and their search spaces.

    Calling it again changes nothing. rl-zoo3 is imported here, not with this module.
    """
    import rl_zoo3
    import rl_zoo3.exp_manager
    import rl_zoo3.hyperparams_opt
    import rl_zoo3.utils

    from sb3_ppo_variants.zoo.masking import playing, remembering
    from sb3_ppo_variants.zoo.search_spaces import CONVERTERS, SAMPLERS

    if "ppo_clip" not in rl_zoo3.ALGOS:
        # Dictionaries shared by all of the zoo's modules, so they are extended in place; each command builds its parser
        # from ALGOS when it is called.
        rl_zoo3.ALGOS.update({name: playing(cls) if is_maskable(name) else cls for name, cls in ALGORITHMS.items()})
        rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER.update(SAMPLERS)
        rl_zoo3.hyperparams_opt.HYPERPARAMS_CONVERTER.update(CONVERTERS)
        # The zoo's scripts play without action masks and offer no hook.
        create_test_env = rl_zoo3.utils.create_test_env
        _replace("create_test_env", create_test_env, remembering(create_test_env))

    if hasattr(sys.modules["rl_zoo3.exp_manager"], "ExperimentManager"):
        from sb3_ppo_variants.zoo.experiment_manager import StockExperimentManager, VariantExperimentManager

        # The zoo looks for YAML files in its own folder only and offers no hook for another one.
        _replace("ExperimentManager", StockExperimentManager, VariantExperimentManager)
    # Else this was called through custom_envs.py while that very module is being imported, by a command that asks the
    # manager about environments only, such as rl_zoo3.record_video. train and enjoy import custom_envs before it.


def _replace(name: str, stock: Any, ours: Any) -> None:
    """Put ours in place of a stock object in every module of the zoo that holds it.

    The zoo's commands copy such names when they are imported: replacing one at its source serves those imported later,
    and the loop those that were imported before. A command to which somebody gave an object of their own keeps it.
    """
    for module_name, module in list(sys.modules.items()):
        is_zoo = module_name == "rl_zoo3" or module_name.startswith("rl_zoo3.")
        if is_zoo and getattr(module, name, None) is stock:
            setattr(module, name, ours)


__all__ = ["ALGORITHMS", "host_name", "is_maskable", "is_recurrent", "register"]

"""rl-zoo3 with the algorithms of this package.

``python -m sb3_ppo_variants.zoo train --algo ppo_penalty --env CartPole-v1`` is rl-zoo3's own ``train``. A launcher
script of one's own needs one line before it parses its arguments::

    import sb3_ppo_variants.zoo

    sb3_ppo_variants.zoo.register()
"""

import sys
from typing import TYPE_CHECKING

from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

ALGORITHMS: "dict[str, type[BaseAlgorithm]]" = {
    "ppo_clip": PPOClip,
    "ppo_penalty": PPOPenalty,
    "ppo_adaptive_clip": PPOAdaptiveClip,
}
"""The classes by the name that rl-zoo3's ``--algo`` takes."""


def host_name(algo: str) -> str:
    """Return the zoo's name of the algorithm whose entries and search space suit one of ours.

    :param algo: key of ``ALGORITHMS``
    """
    return "ppo_lstm" if algo.endswith("_lstm") else "ppo"


def register() -> None:
    """Make rl-zoo3 know the algorithms of this package, their hyperparameter files and their search spaces.

    Calling it again changes nothing. rl-zoo3 is imported here, not with this module.
    """
    import rl_zoo3

    # One dictionary shared by all of the zoo's modules, so it is extended in place; each command builds its parser from
    # it when it is called.
    rl_zoo3.ALGOS.update(ALGORITHMS)

    import rl_zoo3.exp_manager
    import rl_zoo3.hyperparams_opt

    if not hasattr(rl_zoo3.exp_manager, "ExperimentManager"):
        # Called through custom_envs.py while this very module is being imported, by a command that needs the manager
        # for questions about environments only, such as rl_zoo3.record_video. train and enjoy import custom_envs first.
        return
    from sb3_ppo_variants.zoo.experiment_manager import StockExperimentManager, VariantExperimentManager
    from sb3_ppo_variants.zoo.search_spaces import CONVERTERS, SAMPLERS

    rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER.update(SAMPLERS)
    rl_zoo3.hyperparams_opt.HYPERPARAMS_CONVERTER.update(CONVERTERS)

    # The zoo looks for YAML files in its own folder only and offers no hook for another one. Its commands copy the name
    # ExperimentManager when they are imported: replacing it at its source serves those imported later, and the loop
    # those that were imported before. A command to which somebody gave a manager of their own keeps it.
    for name, module in list(sys.modules.items()):
        is_zoo = name == "rl_zoo3" or name.startswith("rl_zoo3.")
        if is_zoo and getattr(module, "ExperimentManager", None) is StockExperimentManager:
            setattr(module, "ExperimentManager", VariantExperimentManager)  # noqa: B010  (an unknown module)


__all__ = ["ALGORITHMS", "host_name", "register"]

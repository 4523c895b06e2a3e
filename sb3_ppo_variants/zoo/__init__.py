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


def register() -> None:
    """Make rl-zoo3 know the algorithms of this package and their hyperparameter files.

    Calling it again changes nothing. rl-zoo3 is imported here, not with this module.
    """
    import rl_zoo3
    import rl_zoo3.exp_manager

    from sb3_ppo_variants.zoo.experiment_manager import StockExperimentManager, VariantExperimentManager

    # One dictionary shared by all of the zoo's modules, so it is extended in place; each command builds its parser from
    # it when it is called.
    rl_zoo3.ALGOS.update(ALGORITHMS)

    # The zoo looks for YAML files in its own folder only and offers no hook for another one. Its commands copy the name
    # ExperimentManager when they are imported: replacing it at its source serves those imported later, and the loop
    # those that were imported before. A command to which somebody gave a manager of their own keeps it.
    for name, module in list(sys.modules.items()):
        is_zoo = name == "rl_zoo3" or name.startswith("rl_zoo3.")
        if is_zoo and getattr(module, "ExperimentManager", None) is StockExperimentManager:
            setattr(module, "ExperimentManager", VariantExperimentManager)  # noqa: B010  (an unknown module)


__all__ = ["ALGORITHMS", "register"]

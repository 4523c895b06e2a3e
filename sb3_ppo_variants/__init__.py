"""PPO with other trust regions for Stable-Baselines3.

The classes are in ``algorithms``; a variant of one's own is written with ``extend``. docs/design.md describes the
folders, each of which uses only those below it.
"""

from sb3_ppo_variants.algorithms.ppo_adaptive_clip import (
    MaskablePPOAdaptiveClip,
    PPOAdaptiveClip,
    RecurrentPPOAdaptiveClip,
)
from sb3_ppo_variants.algorithms.ppo_adaptive_lr import MaskablePPOAdaptiveLR, PPOAdaptiveLR, RecurrentPPOAdaptiveLR
from sb3_ppo_variants.algorithms.ppo_clip import MaskablePPOClip, PPOClip, RecurrentPPOClip
from sb3_ppo_variants.algorithms.ppo_penalty import MaskablePPOPenalty, PPOPenalty, RecurrentPPOPenalty
from sb3_ppo_variants.update.nonfinite import NonFiniteUpdateError
from sb3_ppo_variants.version import __version__ as __version__

__all__ = [
    "MaskablePPOAdaptiveClip",
    "MaskablePPOAdaptiveLR",
    "MaskablePPOClip",
    "MaskablePPOPenalty",
    "NonFiniteUpdateError",
    "PPOAdaptiveClip",
    "PPOAdaptiveLR",
    "PPOClip",
    "PPOPenalty",
    "RecurrentPPOAdaptiveClip",
    "RecurrentPPOAdaptiveLR",
    "RecurrentPPOClip",
    "RecurrentPPOPenalty",
]

# A pickle names a class by module, and checkpoints hold the algorithm's: the public place lasts, the rooms may change.
# The price: inspect.getsource finds the methods of these classes, but not the classes, which have only a docstring.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name

"""PPO with other trust regions for Stable-Baselines3.

The classes are in ``algorithms``; a variant of one's own is written with ``extend``. docs/design.md describes the
folders, each of which uses only those below it.
"""

from sb3_ppo_variants.algorithms.ppo_adaptive_clip import (
    MaskablePPOAdaptiveClip,
    PPOAdaptiveClip,
    RecurrentPPOAdaptiveClip,
)
from sb3_ppo_variants.algorithms.ppo_clip import MaskablePPOClip, PPOClip, RecurrentPPOClip
from sb3_ppo_variants.algorithms.ppo_penalty import MaskablePPOPenalty, PPOPenalty, RecurrentPPOPenalty
from sb3_ppo_variants.update.nonfinite import NonFiniteUpdateError
from sb3_ppo_variants.version import __version__ as __version__

__all__ = [
    "MaskablePPOAdaptiveClip",
    "MaskablePPOClip",
    "MaskablePPOPenalty",
    "NonFiniteUpdateError",
    "PPOAdaptiveClip",
    "PPOClip",
    "PPOPenalty",
    "RecurrentPPOAdaptiveClip",
    "RecurrentPPOClip",
    "RecurrentPPOPenalty",
]

"""PPO with other trust regions for Stable-Baselines3.

Layers, each importing only from those above it:

- pure functions: ``losses``, ``kl_divergence``, ``controllers``; ``arguments`` checks what users pass
- reading a rollout and a policy: ``minibatches``, ``policy_evaluation``, ``closed_forms``, ``update_metrics``
- one update: ``reference_update``; the fast path ``flat_parameters``, ``mlp_trunk``, ``written_gradient``,
  ``staged_update``, ``compiled_update``, ``lean_rollout``, and ``acceleration``, which chooses among them
- ``minibatch_loss``: what is minimised; ``policy_update``: the only ``train()``; ``adaptation``: what the adaptive
  variants share
- the algorithms: ``ppo_clip``, ``ppo_penalty``, ``ppo_adaptive_clip``
- callbacks, imported on demand: ``trust_region_log``, the table of a run's updates; ``update_callback``, what they
  share; ``trust_region_recorder``; ``callbacks``, the public names
- ``zoo``: rl-zoo3 integration, imported on demand
"""

from sb3_ppo_variants.ppo_adaptive_clip import MaskablePPOAdaptiveClip, PPOAdaptiveClip, RecurrentPPOAdaptiveClip
from sb3_ppo_variants.ppo_clip import MaskablePPOClip, PPOClip, RecurrentPPOClip
from sb3_ppo_variants.ppo_penalty import MaskablePPOPenalty, PPOPenalty, RecurrentPPOPenalty

__version__ = "0.1.0"
__all__ = [
    "MaskablePPOAdaptiveClip",
    "MaskablePPOClip",
    "MaskablePPOPenalty",
    "PPOAdaptiveClip",
    "PPOClip",
    "PPOPenalty",
    "RecurrentPPOAdaptiveClip",
    "RecurrentPPOClip",
    "RecurrentPPOPenalty",
]

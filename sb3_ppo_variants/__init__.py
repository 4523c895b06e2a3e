"""PPO with other trust regions for Stable-Baselines3.

Layers, each importing only from those above it:

- pure functions: ``losses``, ``kl_divergence``, ``controllers``; ``arguments`` checks what users pass
- reading a rollout and a policy: ``minibatches``, ``policy_evaluation``, ``closed_forms``, ``update_metrics``;
  ``nonfinite`` guards them
- one update: ``reference_update``; the fast path ``flat_parameters``, ``mlp_trunk``, ``written_gradient``,
  ``staged_update``, ``compiled_update``, ``lean_rollout``, ``whole_sequences``, and ``acceleration``, which chooses
  among them
- saved models: ``plain_data``, ``saved_class``, ``loading``
- ``minibatch_loss``: what is minimised; ``policy_update``: the only ``train()``; ``adaptation``: what the adaptive
  variants share
- the algorithms: ``ppo_clip``, ``ppo_penalty``, ``ppo_adaptive_clip``
- long runs, of any on-policy algorithm of SB3: ``checkpoint_files``, ``environment_state``, ``run_state``,
  ``checkpoints``
- imported on demand: ``trust_region_log``, the table of a run's updates; ``figure_style``, ``objective_figure``,
  ``plots`` and ``plot_command``; ``update_callback``, ``trust_region_recorder``, ``clip_range_steering`` and
  ``callbacks``, where the callbacks are public
- ``zoo``: rl-zoo3 integration, imported on demand
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

# A pickle names a class by module, and checkpoints hold the algorithm's: the public place lasts, the rooms may change.
# The price: inspect.getsource finds the methods of these classes, but not the classes, which have only a docstring.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name

"""Everything a variant of one's own needs; docs/writing_a_variant.md shows how on one page.

A variant is a mixin before a host: ``class New(NewMixin, PPO)``. It overrides some of the hooks of
:class:`PolicyUpdateMixin` and calls ``super()``; mixins combine.
"""

from sb3_ppo_variants.algorithms.adaptation import AdaptiveUpdateMixin
from sb3_ppo_variants.algorithms.own_terms import Penalty
from sb3_ppo_variants.algorithms.policy_update import PolicyUpdateMixin
from sb3_ppo_variants.algorithms.ppo_adaptive_clip import AdaptiveClipMixin
from sb3_ppo_variants.algorithms.ppo_adaptive_lr import AdaptiveLearningRateMixin
from sb3_ppo_variants.algorithms.ppo_clip import ClipMixin
from sb3_ppo_variants.algorithms.ppo_penalty import KLPenaltyMixin
from sb3_ppo_variants.arguments.checks import check_bounds, check_count, check_positive, is_number, require
from sb3_ppo_variants.update.controllers import Adjustment, BandController, within
from sb3_ppo_variants.update.distributions import (
    ActionDistribution,
    Context,
    action_distribution,
    kl_divergence,
    register_distribution,
)
from sb3_ppo_variants.update.losses import (
    Number,
    clipped_surrogate,
    masked_mean,
    normalize_advantages,
    outside_clip_range,
    value_errors,
)
from sb3_ppo_variants.update.policy_evaluation import Evaluation, evaluate_minibatch, snapshot_policy, valid_steps
from sb3_ppo_variants.update.rules import StopRule, UpdateRules

__all__ = [
    "ActionDistribution",
    "AdaptiveClipMixin",
    "AdaptiveLearningRateMixin",
    "AdaptiveUpdateMixin",
    "Adjustment",
    "BandController",
    "ClipMixin",
    "Context",
    "Evaluation",
    "KLPenaltyMixin",
    "Number",
    "Penalty",
    "PolicyUpdateMixin",
    "StopRule",
    "UpdateRules",
    "action_distribution",
    "check_bounds",
    "check_count",
    "check_positive",
    "clipped_surrogate",
    "evaluate_minibatch",
    "is_number",
    "kl_divergence",
    "masked_mean",
    "normalize_advantages",
    "outside_clip_range",
    "register_distribution",
    "require",
    "snapshot_policy",
    "valid_steps",
    "value_errors",
    "within",
]

# As in the package itself: what pickles a variant of one's own names its mixins by their public place.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
del _name

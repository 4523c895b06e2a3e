"""Callbacks that show, guard and steer the trust region, for the classes of this package and for stock ones.

Each takes plain values, so that rl-zoo3's YAML files can name it under ``callback:``; docs/callbacks.md shows how.
"""

from sb3_ppo_variants.callbacks.clip_fraction import (
    ClipFractionCallback,
    ClipFractionRecord,
    StopTrainingOnClipFraction,
    StopTrainingOnKL,
)
from sb3_ppo_variants.callbacks.clip_range_steering import ClipRangeFromClipFraction, ScaledSchedule
from sb3_ppo_variants.callbacks.trust_region_recorder import TrustRegionFigure, TrustRegionRecorder
from sb3_ppo_variants.callbacks.update_callback import UpdateCallback

__all__ = [
    "ClipFractionCallback",
    "ClipFractionRecord",
    "ClipRangeFromClipFraction",
    "StopTrainingOnClipFraction",
    "StopTrainingOnKL",
    "TrustRegionFigure",
    "TrustRegionRecorder",
    "UpdateCallback",
]

# Checkpoints hold the one, a model saved after an update that failed the other: under this name a pickle finds them
# wherever their modules move to.
for _held in (ClipFractionRecord, ScaledSchedule):
    _held.__module__ = __name__
del _held

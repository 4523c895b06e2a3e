"""Callbacks that show or steer the trust region, for the classes of this package and for stock ones."""

from sb3_ppo_variants.trust_region_recorder import TrustRegionRecorder

__all__ = ["TrustRegionRecorder"]

"""The public place of :mod:`sb3_ppo_variants.checkpoints.environment_state`."""

from sb3_ppo_variants.checkpoints.environment_state import CheckpointableEnv, EnvironmentState, put_state, take_state

__all__ = ["CheckpointableEnv", "EnvironmentState", "put_state", "take_state"]

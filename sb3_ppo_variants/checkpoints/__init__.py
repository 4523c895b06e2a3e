"""Checkpoints that cannot be torn, and runs that continue from them as if nothing had happened."""

from sb3_ppo_variants.checkpoints.checkpoint import Checkpoint, read_checkpoint
from sb3_ppo_variants.checkpoints.checkpoint_files import CheckpointFile, newest_checkpoint
from sb3_ppo_variants.checkpoints.environment_state import CheckpointableEnv
from sb3_ppo_variants.checkpoints.resumable import ResumableCheckpointCallback, resume

__all__ = [
    "Checkpoint",
    "CheckpointFile",
    "CheckpointableEnv",
    "ResumableCheckpointCallback",
    "newest_checkpoint",
    "read_checkpoint",
    "resume",
]

"""Vectorised environments for SB3's algorithms, stock ones included."""

from sb3_ppo_variants.vec_env.gymnasium_vec_env import GymnasiumVecEnv
from sb3_ppo_variants.vec_env.lean_vec_env import LeanVecEnv

__all__ = ["GymnasiumVecEnv", "LeanVecEnv"]

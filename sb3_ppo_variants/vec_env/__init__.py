"""Environments of other makes as SB3's VecEnv."""

from sb3_ppo_variants.vec_env.gymnasium_vec_env import GymnasiumVecEnv

__all__ = ["GymnasiumVecEnv"]

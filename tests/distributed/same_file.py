"""One of several ranks, all of which would write their episodes into the same files: prints what it is told."""

import sys

import gymnasium as gym
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.distributed import current_ranks
from sb3_ppo_variants.vec_env import GymnasiumVecEnv


def main(folder: str) -> None:
    own = f"{folder}/rank_{current_ranks().rank}"
    within = make_vec_env(lambda: gym.make("CartPole-v1", max_episode_steps=5), 2, monitor_dir=f"{folder}/shared")
    around = VecNormalize(VecMonitor(make_vec_env("CartPole-v1", 2, monitor_dir=own), f"{folder}/all"))
    simulator = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    vectorised = GymnasiumVecEnv(simulator, ResultsWriter(f"{folder}/vector"))
    for env in (within, around, vectorised):
        try:
            PPOClip("MlpPolicy", env, n_steps=8, seed=0).learn(32)
        except ValueError as error:
            print(error)
    env = make_vec_env("CartPole-v1", 2, monitor_dir=own)
    print(PPOClip("MlpPolicy", env, n_steps=8, seed=0).learn(32).num_timesteps)


if __name__ == "__main__":
    main(sys.argv[1])

"""A script that asks for its rank where it is imported, and trains on environments in processes of their own."""

import sys

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.distributed import current_ranks

RANK = current_ranks().rank

if __name__ == "__main__":
    env = make_vec_env("CartPole-v1", 2, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": sys.argv[1]})
    model = PPOClip("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu").learn(64)
    print(RANK, current_ranks().size, model.num_timesteps)
    env.close()

"""A script that starts a run, or goes on with it: its environments hold members of its own enumeration."""

import enum
import sys
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume
from sb3_ppo_variants.environment_state import CheckpointableEnv


class Phase(enum.Enum):
    UP = 1
    DOWN = 2


class Machine(gym.Env[Any, Any]):
    class Part:
        pass

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.phase, self.part = Phase.UP, Machine.Part()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        own = self.phase is Phase.UP and isinstance(self.part, Machine.Part)
        return np.zeros(2, np.float32), float(own), False, False, {}


def make(kind: str) -> VecEnv:
    vec_env_cls: Any = SubprocVecEnv if kind == "processes" else DummyVecEnv
    return make_vec_env(Machine, 2, wrapper_class=CheckpointableEnv, vec_env_cls=vec_env_cls)


if __name__ == "__main__":
    what, kind, folder = sys.argv[1:]
    model: Any
    if what == "start":
        model = PPOClip("MlpPolicy", make(kind), n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
        model.learn(32, callback=ResumableCheckpointCallback(32, folder))
    else:
        model = resume(folder, make(kind), total_timesteps=64)
    print(model.num_timesteps, model.rollout_buffer.rewards.mean())
    model.env.close()

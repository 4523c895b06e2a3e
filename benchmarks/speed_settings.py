"""The settings of speed.py: what people train, beside the four that the fast path was written on; some for a GPU."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

import sb3_ppo_variants
from sb3_ppo_variants.extractors import BFloat16CNN

STOCK: dict[str, type[BaseAlgorithm]] = {"": PPO, "Recurrent": RecurrentPPO, "Maskable": MaskablePPO}
VARIANTS = ("PPOClip", "PPOPenalty", "PPOAdaptiveClip")


class AtariLikeEnv(gym.Env[Any, Any]):
    """Stand-in with Atari's observations (4 stacked 84x84 frames) and no emulator: for machines without ALE."""

    observation_space: spaces.Space[Any] = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space: spaces.Space[Any] = spaces.Discrete(6)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.frames = [self.observation_space.sample() for _ in range(8)]
        self.clock = 0
        return self.frames[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        right = np.all(np.asarray(action) == self.clock % 3)
        return self.frames[self.clock % 8], float(right), False, self.clock % 200 == 0, {}


def pendulum_in_parts() -> gym.Env[Any, Any]:
    """Make Pendulum-v1 with its observation as a dictionary of vectors: where the tip is, and how fast it moves."""
    env = gym.make("Pendulum-v1")
    one, two = spaces.Box(-1, 1, (2,)), spaces.Box(-8, 8, (1,))
    parts = spaces.Dict({"position": one, "velocity": two})
    return gym.wrappers.TransformObservation(env, lambda obs: {"position": obs[:2], "velocity": obs[2:]}, parts)


class DictEnv(AtariLikeEnv):
    """Stand-in with a vector, a small image and two choices to make."""

    observation_space = spaces.Dict(
        {"vector": spaces.Box(-1, 1, (12,), np.float32), "image": spaces.Box(0, 255, (3, 36, 36), np.uint8)}
    )
    action_space = spaces.MultiDiscrete([3, 4])


def invalid_actions() -> gym.Env[Any, Any]:
    return InvalidActionEnvDiscrete(dim=80, n_invalid_actions=60)


@dataclass(frozen=True)
class Setting:
    """One environment with PPO's hyperparameters; ``updates`` are timed after one that is not."""

    env: str | Callable[[], gym.Env[Any, Any]]
    policy: str
    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    updates: int
    host: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    own_arguments: dict[str, Any] = field(default_factory=dict)  # of this package's classes alone


WIDE = {"net_arch": [256, 256], "activation_fn": th.nn.ReLU}
BF16 = {"features_extractor_class": BFloat16CNN, "net_arch": []}
SETTINGS = {
    "S1": Setting("CartPole-v1", "MlpPolicy", 8, 32, 256, 20, 20),
    "S2": Setting("Pendulum-v1", "MlpPolicy", 4, 1024, 64, 10, 1),
    "S3": Setting("HalfCheetah-v5", "MlpPolicy", 1, 2048, 64, 10, 2),
    "S4": Setting(AtariLikeEnv, "CnnPolicy", 8, 128, 256, 4, 1),
    "S4_bf16": Setting(AtariLikeEnv, "CnnPolicy", 8, 128, 256, 4, 1, own_arguments={"policy_kwargs": BF16}),
    "lunar_lander": Setting("LunarLander-v3", "MlpPolicy", 16, 1024, 64, 4, 1),
    "hopper": Setting("Hopper-v5", "MlpPolicy", 1, 512, 32, 5, 4, arguments={"policy_kwargs": WIDE}),
    "half_cheetah": Setting("HalfCheetah-v5", "MlpPolicy", 8, 256, 512, 10, 1, arguments={"policy_kwargs": WIDE}),
    "gsde": Setting("Pendulum-v1", "MlpPolicy", 4, 1024, 64, 10, 1, arguments={"use_sde": True, "sde_sample_freq": 4}),
    "dict": Setting(DictEnv, "MultiInputPolicy", 8, 64, 64, 4, 1),
    "dict_vectors": Setting(pendulum_in_parts, "MultiInputPolicy", 4, 1024, 64, 10, 1),
    "clip_range_vf": Setting("CartPole-v1", "MlpPolicy", 16, 128, 64, 4, 2, arguments={"clip_range_vf": 0.2}),
    "target_kl": Setting("Pendulum-v1", "MlpPolicy", 4, 1024, 64, 10, 1, arguments={"target_kl": 0.1}),
    "recurrent": Setting("CartPole-v1", "MlpLstmPolicy", 8, 128, 128, 4, 1, "Recurrent"),
    "maskable": Setting(invalid_actions, "MlpPolicy", 8, 128, 64, 10, 1, "Maskable"),
}

WIDEST = {"net_arch": [1024, 1024], "activation_fn": th.nn.ReLU}
GPU_SETTINGS = {
    "images": Setting(AtariLikeEnv, "CnnPolicy", 64, 32, 1024, 4, 2),
    "images_bf16": Setting(AtariLikeEnv, "CnnPolicy", 64, 32, 1024, 4, 2, arguments={"policy_kwargs": BF16}),
    "wide": Setting("Pendulum-v1", "MlpPolicy", 64, 64, 1024, 10, 1, arguments={"policy_kwargs": WIDEST}),
}
"""For a GPU: larger minibatches, more products."""


def make_model(name: str, setting: Setting, device: str, seed: int) -> Any:
    """Build a contender.

    :param name: "stock", or a variant and an acceleration
    :param setting: to train on
    :param device: of the policy
    :param seed: of everything
    """
    vec_env = make_vec_env(setting.env, n_envs=setting.n_envs, seed=seed)
    arguments: dict[str, Any] = {
        "n_steps": setting.n_steps,
        "batch_size": setting.batch_size,
        "n_epochs": setting.n_epochs,
        "seed": seed,
        "device": device,
        **setting.arguments,
    }
    if name == "stock":
        return STOCK[setting.host](setting.policy, vec_env, **arguments)
    variant, acceleration = name.split()
    arguments |= setting.own_arguments
    if variant != "PPOClip":
        arguments["max_kl"] = None  # all epochs, as stock PPO does: the same work on both sides
    cls = getattr(sb3_ppo_variants, f"{setting.host}{variant}")
    return cls(setting.policy, vec_env, acceleration=acceleration, **arguments)

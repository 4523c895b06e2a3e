"""Tiny deterministic environments for every action and observation space that the hosts support.

Episodes are of uneven length and end in turn by themselves and by a time limit, so that rollouts hold both kinds of
ends and several environments never march in step. Nothing is random but the first state after a seeded reset.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

ACTION_SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
}
_VECTOR = spaces.Box(-10.0, 10.0, (4,), np.float32)
_IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)  # the smallest that NatureCNN accepts
OBSERVATION_SPACES: dict[str, spaces.Space[Any]] = {
    "vector": _VECTOR,
    "image": _IMAGE,
    "dict": spaces.Dict({"vector": _VECTOR, "image": _IMAGE}),
    "vectors": spaces.Dict({"z": _VECTOR, "bits": spaces.MultiBinary(2), "phase": spaces.Discrete(5)}),
}
MASK_SIZES = {"discrete": [3], "multi_discrete": [2, 3], "multi_binary": [2, 2, 2]}
EPISODE_LENGTHS = (7, 3, 11, 5, 8)


class TinyEnv(gym.Env[Any, Any]):
    """A damped four-dimensional state pushed around by the action; the reward likes it near a corner.

    :param action: a key of ``ACTION_SPACES``
    :param observation: a key of ``OBSERVATION_SPACES``
    :param reward_scale: factor on every reward
    """

    def __init__(self, action: str = "discrete", observation: str = "vector", reward_scale: float = 1.0):
        self.action_kind = action
        self.action_space = ACTION_SPACES[action]
        self.observation_space = OBSERVATION_SPACES[observation]
        self.observation_kind = observation
        self.reward_scale = reward_scale
        self.state = np.zeros(4)
        self.episode = -1
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.episode = seed  # so that parallel environments, whose seeds differ, end at different times
        self.state = self.np_random.uniform(-1.0, 1.0, size=4)
        self.episode += 1
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        push = np.resize(np.asarray(action, dtype=np.float64), 4)
        self.state = 0.8 * np.roll(self.state, 1) + 0.3 * push
        self.steps += 1
        over = self.steps >= EPISODE_LENGTHS[self.episode % len(EPISODE_LENGTHS)]
        by_time_limit = self.episode % 2 == 1
        reward = self.reward_scale * float(1.0 - np.abs(self.state - (0.5, -0.5, 1.0, 0.0)).sum())
        return self._observation(), reward, over and not by_time_limit, over and by_time_limit, {}

    def action_masks(self) -> np.ndarray:
        """Which choices are valid now, over all dimensions of a discrete action; two or more in most states."""
        sizes = MASK_SIZES[self.action_kind]
        masks = [(np.arange(size) + self.steps + position) % 4 != 3 for position, size in enumerate(sizes)]
        return np.concatenate([mask | ~mask.any() for mask in masks])

    def _observation(self) -> Any:
        vector = self.state.astype(np.float32)
        rows = np.resize(self.state, 36)
        image = (127 + 120 * np.tanh(np.add.outer(rows, rows))).astype(np.uint8)[:, :, None]
        vectors = {"z": vector, "bits": (vector[:2] > 0).astype(np.int8), "phase": self.steps % 5}
        both = {"vector": vector, "image": image}
        return {"vector": vector, "image": image, "dict": both, "vectors": vectors}[self.observation_kind]


def make_env(action: str = "discrete", observation: str = "vector", **kwargs: Any) -> Callable[[], gym.Env[Any, Any]]:
    """Describe a tiny environment, to be made by a VecEnv.

    :param action: a key of ``ACTION_SPACES``
    :param observation: a key of ``OBSERVATION_SPACES``
    :param kwargs: further arguments of ``TinyEnv``
    :return: makes a new environment at every call
    """
    return lambda: TinyEnv(action, observation, **kwargs)


def make_vec_env(action: str = "discrete", observation: str = "vector", n_envs: int = 2, **kwargs: Any) -> DummyVecEnv:
    """Make several tiny environments.

    :param action: a key of ``ACTION_SPACES``
    :param observation: a key of ``OBSERVATION_SPACES``
    :param n_envs: how many
    :param kwargs: further arguments of ``TinyEnv``
    """
    return DummyVecEnv([make_env(action, observation, **kwargs)] * n_envs)

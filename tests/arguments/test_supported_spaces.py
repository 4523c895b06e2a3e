"""Spaces are refused only where the host fails on them, too."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_ppo_variants import PPOClip, RecurrentPPOClip

SMALL: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "device": "cpu"}
SYMBOLS = spaces.MultiDiscrete([3, 4])
PAIR = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Box(-1, 1, (2,))})


class EnvOf(gym.Env[Any, Any]):
    """An environment with any observations."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space: spaces.Space[Any]):
        self.observation_space = observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, False, False, {}


class OneHot(BaseFeaturesExtractor):
    def __init__(self, space: Any):
        super().__init__(space, 8)
        self.layer = nn.Linear(7, 8)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations)


class Joined(BaseFeaturesExtractor):
    def __init__(self, space: Any):
        super().__init__(space, 4)

    def forward(self, observations: Any) -> th.Tensor:
        return th.cat([observations["a"], observations["b"]], dim=1)


class OwnExtractorPolicy(ActorCriticPolicy):
    def make_features_extractor(self) -> BaseFeaturesExtractor:
        return Joined(self.observation_space)


@pytest.mark.parametrize("cls", [RecurrentPPO, RecurrentPPOClip])
def test_symbols_train_with_an_lstm_behind_an_extractor_of_ones_own(cls: type[Any]) -> None:
    policy_kwargs = {"features_extractor_class": OneHot, "lstm_hidden_size": 4}
    cls("MlpLstmPolicy", EnvOf(SYMBOLS), policy_kwargs=policy_kwargs, **SMALL).learn(8)


def test_symbols_are_refused_with_an_lstm_behind_the_hosts_extractor() -> None:
    with pytest.raises(ValueError, match="of a recurrent policy must not be MultiDiscrete, got"):
        RecurrentPPOClip("MlpLstmPolicy", EnvOf(SYMBOLS), **SMALL)
    with pytest.raises(TypeError, match="input_size"):
        RecurrentPPO("MlpLstmPolicy", EnvOf(SYMBOLS), **SMALL)


@pytest.mark.parametrize("cls", [PPO, PPOClip])
def test_a_policy_that_makes_its_extractor_itself_takes_what_it_takes(cls: type[Any]) -> None:
    cls(OwnExtractorPolicy, EnvOf(PAIR), **SMALL).learn(8)


@pytest.mark.parametrize(
    ("space", "fits"), [((3, 36, 40), True), ((3, 35, 40), False), ((40, 40, 3), False)], ids=["fits", "low", "last"]
)
@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
def test_small_images_are_refused_if_they_are_floats_too(policy: str, space: tuple[int, ...], fits: bool) -> None:
    image: spaces.Space[Any] = spaces.Box(-1, 1, space, np.float32)
    env = EnvOf(spaces.Dict({"image": image}) if policy == "MultiInputPolicy" else image)
    arguments: dict[str, Any] = {"policy_kwargs": {"normalize_images": False}, **SMALL}
    if fits:
        PPOClip(policy, env, **arguments)
        return
    with pytest.raises(ValueError, match="must be 36 x 36 or larger .* put channels first"):
        PPOClip(policy, env, **arguments)
    with pytest.raises(RuntimeError, match="Kernel size"):
        PPO(policy, env, **arguments)

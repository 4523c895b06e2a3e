"""Policies of somebody's own train as with stock PPO: the fast path serves them, or is refused."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hosts import MAY_FALL_BACK
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.update.losses import normalize_advantages

VECTOR, IMAGE = spaces.Box(-1, 1, (4,)), spaces.Box(-1, 1, (3, 8, 8))
DISCRETE, CONTINUOUS = spaces.Discrete(3), spaces.Box(-1, 1, (3,))

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    MAY_FALL_BACK,
]


class Noise(gym.Env[Any, Any]):
    """Random observations and rewards; episodes of seven steps."""

    def __init__(self, observation_space: spaces.Box = VECTOR, action_space: spaces.Space[Any] = DISCRETE):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.observe(), float(self.np_random.normal()), False, self.steps == 7, {}

    def observe(self) -> Any:
        return self.np_random.uniform(-1, 1, self.observation_space.shape).astype(np.float32)


class Extractor(BaseFeaturesExtractor):
    """Two layers, of which subclasses make use."""

    def __init__(self, space: Any):
        super().__init__(space, 16)
        self.first, self.second = nn.Linear(4, 16), nn.Linear(16, 16)
        self.mean = th.zeros(4)  # no registered buffer


class DropsALayer(Extractor):
    def forward(self, x: th.Tensor) -> th.Tensor:
        x = self.first(x).tanh()
        return x if self.training and th.rand(()) < 0.5 else x + self.second(x).tanh()


class Draws(Extractor):
    def forward(self, x: th.Tensor) -> th.Tensor:
        return self.second(self.first(x + 0.1 * th.randn_like(x)).tanh())


class RemembersWhatItSaw(Extractor):
    def forward(self, x: th.Tensor) -> th.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.second(self.first(x - self.mean).tanh())


class Views(BaseFeaturesExtractor):
    """``view`` fails on images that lie channels last in memory."""

    def __init__(self, space: Any):
        super().__init__(space, 8)
        self.convolution, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(144, 8)

    def forward(self, x: th.Tensor) -> th.Tensor:
        x = self.convolution(x).relu()
        return self.linear(x.view(x.size(0), -1))


class OneStd(ActorCriticPolicy):
    """One standard deviation for all dimensions of the action."""

    std: th.Tensor = th.zeros(1)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.log_std = nn.Parameter(self.std.clone())
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


class StdWithoutAxes(OneStd):
    std = th.tensor(0.0)


class BeginsWithTanh(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        self.mlp_extractor.policy_net = nn.Sequential(nn.Tanh(), nn.Linear(4, 64), nn.Tanh())


class Tied(ActorCriticPolicy):
    """Actor and critic have the memory of a layer in common."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.mlp_extractor.value_net[0].weight.data = self.mlp_extractor.policy_net[0].weight.data


class ReplacesAModule(BaseCallback):
    """Gives the policy a new head before the second rollout, or in the middle of it."""

    def __init__(self, at_step: int):
        super().__init__()
        self.at_step = at_step

    def _on_rollout_start(self) -> None:
        if self.at_step == 16 == self.n_calls:
            self.replace()

    def _on_step(self) -> bool:
        if self.at_step == self.n_calls != 16:
            self.replace()
        return True

    def replace(self) -> None:
        th.manual_seed(5)
        policy: Any = self.model.policy
        policy.value_net = nn.Linear(64, 1)
        policy.optimizer = th.optim.Adam(policy.parameters(), lr=3e-4, eps=1e-5)


def trained(cls: Any, env: Callable[[], Any], callback: BaseCallback | None = None, **arguments: Any) -> Any:
    policy = arguments.pop("policy", "MlpPolicy")
    model = cls(policy, DummyVecEnv([env] * 2), n_steps=16, batch_size=12, n_epochs=2, seed=0, **arguments)
    return model.learn(96, callback=callback)


def parameters(model: Any) -> th.Tensor:
    return th.cat([p.detach().flatten() for p in model.policy.parameters()])


def with_extractor(extractor: type) -> dict[str, Any]:
    return {"policy_kwargs": {"features_extractor_class": extractor}}


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "a layer is left out at random": (Noise, with_extractor(DropsALayer)),
    "the extractor draws": (Noise, with_extractor(Draws)),
    "the extractor remembers": (Noise, with_extractor(RemembersWhatItSaw)),
    "the extractor views images": (lambda: Noise(IMAGE), with_extractor(Views)),
    "one std": (lambda: Noise(VECTOR, CONTINUOUS), {"policy": OneStd}),
    "a std without axes": (lambda: Noise(VECTOR, CONTINUOUS), {"policy": StdWithoutAxes}),
    "the network begins with tanh": (Noise, {"policy": BeginsWithTanh}),
    "two layers have memory in common": (Noise, {"policy": Tied}),
}


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("case", CASES)
def test_the_parameters_are_stock_ppo_s(case: str, acceleration: str) -> None:
    env, arguments = CASES[case]
    expected = parameters(trained(PPO, env, **arguments))
    found = parameters(trained(PPOClip, env, acceleration=acceleration, **arguments))
    if acceleration == "off":
        assert th.equal(found, expected)
    th.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0.1, 0.7, -1.3])
@pytest.mark.parametrize("n", [12, 64, 100])
def test_advantages_that_are_all_the_same_are_normalised_as_torch_does(value: float, n: int) -> None:
    """What is left of them is rounding, divided by itself."""
    same = np.full(n, value, dtype=np.float32)
    np.testing.assert_array_equal(normalize_advantages(same), normalize_advantages(th.from_numpy(same)).numpy())


@pytest.mark.parametrize("at_step", [16, 20])
def test_a_module_that_a_callback_replaces_acts_at_once(at_step: int) -> None:
    expected = parameters(trained(PPO, Noise, ReplacesAModule(at_step)))
    found = parameters(trained(PPOClip, Noise, ReplacesAModule(at_step)))
    th.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_an_extractor_draws_is_the_same_on_all_paths() -> None:
    """With a penalty the old policy is asked, too."""
    models = [trained(PPOPenalty, Noise, acceleration=a, **with_extractor(Draws)) for a in ("off", "eager")]
    th.testing.assert_close(*map(parameters, models), rtol=0, atol=1e-4)


def test_the_optimiser_takes_over_once_a_gradient_is_missing() -> None:
    model = trained(PPOClip, Noise, **with_extractor(DropsALayer))
    assert "more steps than others" in model.acceleration_report()["optimizer"]


def test_images_lie_channels_last_unless_the_extractor_needs_them_otherwise() -> None:
    class Reshapes(Views):
        def forward(self, x: th.Tensor) -> th.Tensor:
            x = self.convolution(x).relu()
            return self.linear(x.reshape(x.size(0), -1))

    assert trained(PPOClip, lambda: Noise(IMAGE), **with_extractor(Reshapes)).acceleration_report()["images"] == (
        "channels last in memory"
    )
    with pytest.warns(UserWarning, match="images of the fast path falls back"):
        report = trained(PPOClip, lambda: Noise(IMAGE), **with_extractor(Views)).acceleration_report()
    assert "view size is not compatible" in report["images"]
    assert "images" not in trained(PPOClip, Noise).acceleration_report()


def test_a_bad_schedule_s_own_error_arrives_and_no_piece_is_blamed() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="clip_range"):
            trained(PPOClip, Noise, clip_range=lambda progress: -1.0)
    assert not any("of the fast path" in str(warning.message) for warning in caught)


def test_parameters_in_shared_memory_stay_there() -> None:
    model = PPOClip("MlpPolicy", DummyVecEnv([Noise]), n_steps=16, batch_size=16)
    model.policy.share_memory()
    model.learn(32)
    assert all(p.is_shared() for p in model.policy.parameters())
    assert "shares the parameters' memory" in model.acceleration_report()["optimizer"]


@pytest.mark.slow  # it compiles
def test_a_graph_is_left_when_a_dropout_changes() -> None:
    class Dropout(Extractor):
        def __init__(self, space: Any):
            super().__init__(space)
            self.dropout = nn.Dropout(0.0)

        def forward(self, x: th.Tensor) -> th.Tensor:
            return self.second(self.dropout(self.first(x).tanh()))

    class Anneal(BaseCallback):
        def _on_step(self) -> bool:
            policy: Any = self.model.policy
            policy.features_extractor.dropout.p = 0.5 if self.num_timesteps > 40 else 0.0
            return True

    models = [trained(PPOClip, Noise, Anneal(), acceleration=a, **with_extractor(Dropout)) for a in ("off", "compile")]
    th.testing.assert_close(*map(parameters, models), rtol=0, atol=1e-5)
    assert "features_extractor.dropout.p has changed" in models[1].acceleration_report()["graph"]

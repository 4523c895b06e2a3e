"""What a module of somebody's own may hold beside parameters: it trains as with stock PPO, whatever is measured."""

import itertools
import random
import threading
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hosts import MAY_FALL_BACK, build
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_ppo_variants import NonFiniteUpdateError, PPOClip, RecurrentPPOClip

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    MAY_FALL_BACK,
]


class Memory(NamedTuple):
    mean: th.Tensor


class Holds(FlattenExtractor):
    """Holds something, and makes use of it whenever it is called."""

    def __init__(self, space: Any):
        super().__init__(space)
        self.make()

    def make(self) -> None: ...

    def use(self, features: th.Tensor) -> th.Tensor:
        return features

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.use(super().forward(observations))


class Lock(Holds):
    def make(self) -> None:
        self.lock = threading.Lock()

    def use(self, features: th.Tensor) -> th.Tensor:
        with self.lock:
            return features


class GraphInATuple(Holds):
    def make(self) -> None:
        self.layer = th.nn.Linear(4, 4)

    def use(self, features: th.Tensor) -> th.Tensor:
        features = self.layer(features)
        if self.training:
            self.seen = (features,)
        return features


class ReadOnly(Holds):
    def make(self) -> None:
        self.scale = np.broadcast_to(np.float32(2), (4,))

    def use(self, features: th.Tensor) -> th.Tensor:
        return features * th.tensor(self.scale)


class SparseAttribute(Holds):
    def make(self) -> None:
        self.adjacency = th.eye(4).to_sparse()

    def use(self, features: th.Tensor) -> th.Tensor:
        return th.sparse.mm(self.adjacency, features.T).T


class SparseBuffer(SparseAttribute):
    def make(self) -> None:
        self.register_buffer("adjacency", th.eye(4).to_sparse())


class ExpandedNaN(Holds):
    def make(self) -> None:
        self.missing = th.full((1,), th.nan).expand(4)


class NaNOfInference(Holds):
    def make(self) -> None:
        with th.inference_mode():
            self.missing = th.full((4,), th.nan)


class RandomState(Holds):
    def make(self) -> None:
        self.generator = np.random.RandomState(0)

    def use(self, features: th.Tensor) -> th.Tensor:
        return features + th.as_tensor(self.generator.normal(size=4), dtype=th.float32)


class ReplacedTuple(Holds):
    def make(self) -> None:
        self.memory = Memory(th.zeros(4))

    def use(self, features: th.Tensor) -> th.Tensor:
        self.memory = Memory(0.5 * self.memory.mean + 0.5 * features.detach().mean(0))
        return features + self.memory.mean


EVERYTHING = (
    *(Lock, GraphInATuple, ReadOnly, SparseAttribute, SparseBuffer, ExpandedNaN, NaNOfInference),
    *(RandomState, ReplacedTuple),
)


def learned(cls: type[Any], extractor: type[Holds], **arguments: Any) -> Any:
    model = build(cls, "box", n_steps=24, policy_kwargs={"features_extractor_class": extractor}, **arguments)
    return model.learn(120)


@pytest.mark.parametrize("extractor", EVERYTHING)
def test_off_trains_as_stock_to_the_last_bit(extractor: type[Holds]) -> None:
    ours = learned(PPOClip, extractor, acceleration="off", value_clipping="sb3", max_kl=1e9)
    assert ours._n_updates > 0
    stock = learned(PPO, extractor)
    assert all(map(th.equal, ours.policy.parameters(), stock.policy.parameters()))


@pytest.mark.parametrize("cls", [PPOClip, RecurrentPPOClip])
@pytest.mark.parametrize("extractor", EVERYTHING)
def test_eager_trains_as_off_does(cls: type[Any], extractor: type[Holds]) -> None:
    found = [learned(cls, extractor, acceleration=path).policy.state_dict() for path in ("off", "eager")]
    for one, other in zip(*(state.values() for state in found)):
        if one.layout == th.strided:
            th.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


class SkipsAtRandom(Holds):
    def use(self, features: th.Tensor) -> th.Tensor:
        return features * (0.5 if self.training and random.random() < 0.3 else 1.0)


class DrawsFromPython(gym.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> Any:
        observation, _, *others = self.env.step(action)
        drawn.append(random.random())
        return observation, drawn[-1], *others


drawn: list[float] = []


def test_checks_leave_python_s_generator_as_it_was() -> None:
    runs = []
    for acceleration in ("off", "eager"):
        drawn.clear()
        arguments = {"n_steps": 24, "batch_size": 12, "seed": 1, "acceleration": acceleration, "device": "cpu"}
        model = PPOClip(
            "MlpPolicy",
            DrawsFromPython(gym.make("CartPole-v1")),
            policy_kwargs={"features_extractor_class": SkipsAtRandom},
            **arguments,
        )
        random.seed(5)
        model.learn(96)
        runs.append(list(drawn))
    assert runs[0] == runs[1]


class MissingSensors(Holds):
    def use(self, features: th.Tensor) -> th.Tensor:
        return features.nan_to_num()


class Disconnects(gym.Wrapper[Any, Any, Any, Any]):
    """One sensor is missing, and after 40 steps a motor."""

    def __init__(self, env: Any):
        super().__init__(env)
        self.counter = itertools.count()

    def step(self, action: Any) -> Any:
        if next(self.counter) == 40:
            raise ValueError("motor 3 is not connected")
        observation, *others = self.env.step(action)
        observation[0] = np.nan
        return observation, *others


def test_where_observations_may_be_nan_they_are_not_blamed_for_other_errors() -> None:
    env = Disconnects(gym.make("CartPole-v1"))
    extractor = {"features_extractor_class": MissingSensors}
    model = PPOClip("MlpPolicy", env, n_steps=24, batch_size=12, policy_kwargs=extractor, device="cpu")
    with pytest.raises(ValueError, match="motor 3 is not connected") as raised:
        model.learn(96)
    assert not isinstance(raised.value, NonFiniteUpdateError)

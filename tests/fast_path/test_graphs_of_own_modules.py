"""What a compiled graph may not keep, count or leave behind where people bring modules of their own."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.nn.utils import parametrizations

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.fast_path.fingerprint import changed_attribute, plain_attributes

SMALL: dict[str, Any] = {
    **{"n_steps": 128, "batch_size": 32, "n_epochs": 3, "learning_rate": 3e-3},
    **{"seed": 0, "device": "cpu"},
}


class Extractor(BaseFeaturesExtractor):
    def __init__(self, space: Any):
        super().__init__(space, 8)
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 8)
        self.keep()

    def keep(self) -> None:
        """Set what the forward pass reads."""

    def forward(self, x: th.Tensor) -> th.Tensor:
        return self.second(th.tanh(self.first(x)))


class ReadsADictionary(Extractor):
    def keep(self) -> None:
        self.settings = {"scale": [1.0]}

    def forward(self, x: th.Tensor) -> th.Tensor:
        return super().forward(x) * self.settings["scale"][0]


SCALES = [1.0]


class ReadsAGlobalVariable(Extractor):
    def keep(self) -> None:
        SCALES[0] = 1.0

    def forward(self, x: th.Tensor) -> th.Tensor:
        return super().forward(x) * SCALES[0]


class CallsAFunction(Extractor):
    def keep(self) -> None:
        self.activation: Callable[[th.Tensor], th.Tensor] = th.relu

    def forward(self, x: th.Tensor) -> th.Tensor:
        return self.activation(super().forward(x))


class NormalisesByATuple(Extractor):
    def keep(self) -> None:
        self.statistics = th.zeros(4), th.ones(4)

    def forward(self, x: th.Tensor) -> th.Tensor:
        mean, std = self.statistics
        return super().forward((x - mean) / std)


class AddsALayerLater(Extractor):
    def keep(self) -> None:
        self.stage = 0

    def forward(self, x: th.Tensor) -> th.Tensor:
        y = th.tanh(self.first(x))
        return y + self.second(y) if self.stage else y


EDITS: dict[type[Extractor], Callable[[Any], Any]] = {
    ReadsADictionary: lambda extractor: extractor.settings["scale"].__setitem__(0, 0.25),
    ReadsAGlobalVariable: lambda extractor: SCALES.__setitem__(0, 0.25),
    CallsAFunction: lambda extractor: setattr(extractor, "activation", th.tanh),
    NormalisesByATuple: lambda extractor: setattr(extractor, "statistics", (th.ones(4), 2 * th.ones(4))),
    AddsALayerLater: lambda extractor: setattr(extractor, "stage", 1),
}


def trained_with_an_edit(cls: type[PPO], kind: type[Extractor], **arguments: Any) -> Any:
    model = cls("MlpPolicy", "CartPole-v1", policy_kwargs={"features_extractor_class": kind}, **SMALL, **arguments)
    model.learn(256)
    EDITS[kind](model.policy.features_extractor)
    return model.learn(256, reset_num_timesteps=False)


def assert_same(model: Any, stock: Any) -> None:
    """Compare parameters and buffers, to rounding, and how many steps Adam has taken with each parameter."""
    states = [m.policy.state_dict() for m in (model, stock)]
    for name in states[1]:
        th.testing.assert_close(states[0][name], states[1][name], rtol=1e-4, atol=1e-4)
    steps = [[int(m.policy.optimizer.state[p]["step"]) for p in m.policy.parameters()] for m in (model, stock)]
    assert steps[0] == steps[1]


@pytest.mark.slow  # it compiles
@pytest.mark.parametrize("kind", EDITS)
def test_a_graph_does_not_outlive_what_it_was_compiled_with(kind: type[Extractor]) -> None:
    model = trained_with_an_edit(PPOClip, kind, acceleration="compile")
    assert_same(model, trained_with_an_edit(PPO, kind))
    reason = "no gradient" if kind is AddsALayerLater else "has changed"
    assert reason in model.acceleration_report()["graph"]


@pytest.mark.slow  # it compiles
@pytest.mark.parametrize("target_kl", [None, 0.002])
def test_steps_that_are_taken_back_leave_nothing_in_buffers(target_kl: float | None) -> None:
    """Spectral norm goes on from what its last forward pass has left in two buffers."""
    models: list[Any] = []
    for cls, own in ((PPO, {}), (PPOClip, {"acceleration": "compile"})):
        model: Any = cls("MlpPolicy", "CartPole-v1", target_kl=target_kl, **SMALL, **own)
        parametrizations.spectral_norm(model.policy.mlp_extractor.policy_net[0])
        model.policy.optimizer = th.optim.Adam(model.policy.parameters(), lr=3e-3, eps=1e-5)
        models.append(model.learn(512))
    assert "torch.compile" in models[1].acceleration_report()["graph"]
    assert_same(models[1], models[0])


def test_what_a_module_keeps_is_compared_by_what_it_is() -> None:
    module = ReadsADictionary(PPO("MlpPolicy", "CartPole-v1", device="cpu").observation_space)
    kept: Any = module
    kept.lowest, kept.pair, kept.array = math.nan, (th.zeros(2), th.ones(2)), np.zeros(3)
    before = plain_attributes(module)
    assert changed_attribute(plain_attributes(module), before) is None
    kept.settings["scale"][0] = 2.0
    assert changed_attribute(plain_attributes(module), before) == "settings"
    kept.settings["scale"][0] = 1.0
    assert changed_attribute(plain_attributes(module), before) is None
    kept.pair = th.zeros(2), th.ones(2)
    assert changed_attribute(plain_attributes(module), before) == "pair"


def test_a_callback_may_ask_the_policy_in_inference_mode_first() -> None:
    model = PPOClip("MlpPolicy", "CartPole-v1", **SMALL)
    observations = th.zeros(16, 4)
    with model._current_acceleration().lean_collection(model.env, model._init_callback(None), model.rollout_buffer):  # type: ignore[arg-type]
        with th.inference_mode():
            model.policy(observations)
        with th.no_grad():
            model.policy(observations)

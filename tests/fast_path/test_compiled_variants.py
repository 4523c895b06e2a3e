"""A graph does what the ordinary code does, whatever a variant puts into the loss; where it cannot, it is given up."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from gymnasium import spaces
from hosts import MAY_FALL_BACK
from stable_baselines3 import PPO

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume
from sb3_ppo_variants.extend import PolicyUpdateMixin

pytestmark = pytest.mark.slow  # each compiles

SETTINGS: dict[str, Any] = {"n_steps": 64, "batch_size": 16, "n_epochs": 2, "seed": 3, "device": "cpu"}


class WeightDecay(PolicyUpdateMixin):
    def extra_loss(self, minibatch: Any, new: Any, coefficients: Any) -> Any:
        return 0.1 * sum((p**2).sum() for p in self.policy.parameters())


class Smooth(PolicyUpdateMixin):
    def extra_loss(self, minibatch: Any, new: Any, coefficients: Any) -> Any:
        return self.policy.predict_values(minibatch.observations + 0.1).pow(2).mean()


class OtherOrder(PolicyUpdateMixin):
    def update_coefficients(self) -> Any:
        own = super().update_coefficients()
        return {"mine": 0.3, **own} if self.num_timesteps > 128 else {**own, "mine": 0.3}

    def surrogate(self, ratio: Any, advantages: Any, kl: Any, coefficients: Any) -> Any:
        return ratio * advantages * coefficients["mine"]


class OneMore(PolicyUpdateMixin):
    def update_coefficients(self) -> Any:
        return {**super().update_coefficients(), **({"bonus": 0.1} if self.num_timesteps > 128 else {})}

    def surrogate(self, ratio: Any, advantages: Any, kl: Any, coefficients: Any) -> Any:
        return ratio * advantages * (1 + coefficients.get("bonus", 0.0))


class NoNumber(PolicyUpdateMixin):
    def update_coefficients(self) -> Any:
        return {**super().update_coefficients(), "pair": th.tensor([1.0, 2.0])}

    def surrogate(self, ratio: Any, advantages: Any, kl: Any, coefficients: Any) -> Any:
        return ratio * advantages * coefficients["pair"][0]


class KeptNumber(PolicyUpdateMixin):
    weight = 0.0

    def surrogate(self, ratio: Any, advantages: Any, kl: Any, coefficients: Any) -> Any:
        return (1 - self.weight) * ratio * advantages

    def after_update(self, kl: float, progress: float) -> None:
        super().after_update(kl, progress)
        self.weight = 1.5


def trained(mixin: type[Any], acceleration: str, updates: int = 2) -> tuple[th.Tensor, Any]:
    cls: Any = type("Variant", (mixin, PPO), {})
    model = cls("MlpPolicy", make_vec_env(), acceleration=acceleration, **SETTINGS).learn(128 * updates)
    return th.cat([p.detach().flatten() for p in model.policy.parameters()]), model


@pytest.mark.parametrize("mixin", [WeightDecay, Smooth, OtherOrder])
def test_terms_that_ask_the_policy_and_coefficients_in_any_order_compile(mixin: type[Any]) -> None:
    (expected, _), (found, model) = (trained(mixin, how) for how in ("off", "compile"))
    assert model.acceleration_report()["graph"] == "torch.compile"
    th.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
    assert not th.allclose(found, trained(PolicyUpdateMixin, "off")[0], atol=1e-4)


@pytest.mark.parametrize(
    ("mixin", "reason"),
    [(OneMore, "the coefficients are .*'bonus'"), (NoNumber, "only one element tensors can be converted")],
)
def test_coefficients_that_a_graph_cannot_take_give_it_up(mixin: type[Any], reason: str) -> None:
    (expected, _), (found, model) = (trained(mixin, how) for how in ("off", "compile"))
    assert re.search(reason, model.acceleration_report()["graph"])
    th.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_a_number_that_changes_behind_the_graph_is_noticed() -> None:
    (expected, _), (found, model) = (trained(KeptNumber, how, 3) for how in ("off", "compile"))
    assert "its gradients differ by" in model.acceleration_report()["graph"]
    th.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


SWITCHED_OFF = """
from sb3_ppo_variants import PPOClip

model = PPOClip("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=16, n_epochs=2, acceleration="compile", device="cpu")
model.learn(64)
print(int(model.policy.optimizer.state[next(model.policy.parameters())]["step"]))
print(model.acceleration_report()["graph"])
"""


@pytest.mark.parametrize(
    ("variable", "reason"),
    [("TORCH_COMPILE_DISABLE", "found no compiled frames"), ("TORCHDYNAMO_DISABLE", "switches torch.compile off")],
)
def test_steps_of_a_graph_that_turns_out_not_to_be_one_are_taken_once(variable: str, reason: str) -> None:
    command = [sys.executable, "-c", SWITCHED_OFF]
    switched_off = {**os.environ, variable: "1"}
    done = subprocess.run(command, env=switched_off, check=True, capture_output=True, text=True)
    steps, graph = done.stdout.split("\n")[:2]
    assert steps == "8"
    assert reason in graph


class Choices(gym.Env[Any, Any]):
    """Shows random observations of a space."""

    action_space = spaces.Discrete(3)

    def __init__(self, space: spaces.Space[Any]):
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = 15
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return self.observation_space.sample(), float(action == 1), self.left == 0, False, {}


SPACES: dict[str, spaces.Space[Any]] = {
    "choice": spaces.Discrete(5),
    "choices": spaces.MultiDiscrete([3, 4, 2]),
    "dictionary": spaces.Dict({"choice": spaces.Discrete(3), "vector": spaces.Box(-1.0, 1.0, (2,))}),
    "dictionary with an image": spaces.Dict(
        {"image": spaces.Box(0, 255, (3, 36, 36), np.uint8), "vector": spaces.Box(-1.0, 1.0, (2,))}
    ),
}


@pytest.mark.parametrize("kind", list(SPACES))
def test_observations_of_all_kinds_compile(kind: str) -> None:
    found = []
    for acceleration in ("off", "compile"):
        policy = "MultiInputPolicy" if isinstance(SPACES[kind], spaces.Dict) else "MlpPolicy"
        model = PPOClip(policy, Choices(SPACES[kind]), acceleration=acceleration, **SETTINGS)
        model.learn(64 if "image" in kind else 128)  # later on rounding has changed an action
        found.append(th.cat([p.detach().flatten() for p in model.policy.parameters()]))
    assert model.acceleration_report()["graph"] == "torch.compile"
    th.testing.assert_close(found[1], found[0], rtol=1e-4, atol=2e-5)


@MAY_FALL_BACK
@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("form", [lambda r: r.unsqueeze(1) * r, lambda r: r[1:], lambda r: r.mean()])
def test_a_surrogate_of_another_shape_is_refused(form: Any, acceleration: str) -> None:
    class Misshapen(PolicyUpdateMixin):
        def surrogate(self, ratio: Any, advantages: Any, kl: Any, coefficients: Any) -> Any:
            return form(ratio)

    with pytest.raises(ValueError, match=r"surrogate\(\) must return shape \(16,\), got "):
        trained(Misshapen, acceleration, 1)


def test_a_resumed_run_equals_one_that_went_on(tmp_path: Path) -> None:
    """The graph's first steps are compared in each; what is kept are the graph's."""

    def model() -> PPOClip:
        return PPOClip("MlpPolicy", make_vec_env(), acceleration="compile", **SETTINGS)

    whole = model().learn(384)
    model().learn(256, ResumableCheckpointCallback(1, tmp_path))
    resumed = resume(tmp_path, make_vec_env(), total_timesteps=384, device="cpu")
    for one in (whole, resumed):
        assert one.acceleration_report()["graph"] == "torch.compile"  # type: ignore[attr-defined]
    for name, value in whole.policy.state_dict().items():
        assert th.equal(value, resumed.policy.state_dict()[name])

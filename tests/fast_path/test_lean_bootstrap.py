"""Values of cut-off episodes: SB3's numbers, in one pass for all of a step."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import OBSERVATION_SPACES, TinyEnv
from hosts import build, collect_rollout
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_ppo_variants import MaskablePPOClip, PPOClip, PPOPenalty, RecurrentPPOClip
from sb3_ppo_variants.fast_path.interception import module_obstacle
from sb3_ppo_variants.fast_path.lean_bootstrap import _OF_SB3, bootstrap_obstacle


class CutOff(TinyEnv):
    """Time limits end every third step, in all environments at once."""

    def step(self, action: Any) -> Any:
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, self.steps >= 3, info

    def action_masks(self) -> Any:
        return np.ones(3, dtype=bool)


def make_env(observation: str, n_envs: int = 4) -> DummyVecEnv:
    return DummyVecEnv([lambda: CutOff("discrete", observation)] * n_envs)


def collected(cls: type[Any], acceleration: str, observation: str, env: Any = None) -> Any:
    model = build(cls, observation=observation, env=env or make_env(observation), acceleration=acceleration, n_steps=12)
    collect_rollout(model)
    return model


@pytest.mark.parametrize("observation", OBSERVATION_SPACES)
@pytest.mark.parametrize("cls", [PPOClip, MaskablePPOClip])
def test_rewards_are_sb3_s(cls: type[Any], observation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = collected(cls, "off", observation)
    asked: list[int] = []
    predict_values = type(reference.policy).predict_values

    def watched(self: Any, obs: Any) -> Any:
        asked.append(len(next(iter(obs.values())) if isinstance(obs, dict) else obs))
        return predict_values(self, obs)

    model = build(cls, observation=observation, env=make_env(observation), n_steps=12)
    assert bootstrap_obstacle(model) is None
    for base in type(model.policy).__mro__:
        if "predict_values" in vars(base):
            monkeypatch.setattr(base, "predict_values", watched)
            monkeypatch.setitem(_OF_SB3.of[base], "predict_values", watched)
    collect_rollout(model)
    assert asked == [4] * 5  # at the ends of four episodes of all, and after the last step
    ours, stock = model.rollout_buffer, reference.rollout_buffer
    np.testing.assert_array_equal(ours.actions, stock.actions)
    np.testing.assert_allclose(ours.rewards, stock.rewards, rtol=1e-5)
    assert not {"obs_to_tensor", "predict_values"} & set(vars(model.policy))


def test_normalised_rewards_and_observations_too() -> None:
    models = [
        collected(PPOClip, acceleration, "vector", VecNormalize(make_env("vector")))
        for acceleration in ("off", "eager")
    ]
    rewards = [model.rollout_buffer.rewards for model in models]
    np.testing.assert_allclose(*rewards, rtol=1e-4, atol=1e-5)


def test_policies_with_a_way_of_their_own_are_asked_one_by_one() -> None:
    class Own(ActorCriticPolicy):
        def predict_values(self, obs: Any) -> Any:
            return super().predict_values(obs) + 1

    patched = build(PPOClip)
    patched.policy.predict_values = lambda obs: th.zeros(len(obs), 1)
    models = [PPOClip(Own, make_env("vector"), device="cpu"), build(RecurrentPPOClip, "box"), patched]
    assert {bootstrap_obstacle(model) for model in models} == {"the policy overrides predict_values()"}


def test_a_loop_of_its_own_is_given_observations() -> None:
    class OwnLoop(PPOClip):
        def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
            return super().collect_rollouts(*args, **kwargs)

    assert bootstrap_obstacle(build(OwnLoop)) == "the algorithm collects rollouts in its own way"
    assert bootstrap_obstacle(build(MaskablePPOClip)) is None


class WithAnAxisMore(CutOff):
    """Gives observations of shape (1, n), which SB3 accepts."""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return observation[None], info

    def step(self, action: Any) -> Any:
        observation, *others = super().step(action)
        return observation[None], *others


def test_observations_of_another_shape_are_left_to_sb3() -> None:
    envs = [DummyVecEnv([WithAnAxisMore] * 3) for _ in range(2)]
    rewards = [
        collected(PPOClip, acceleration, "vector", env).rollout_buffer.rewards
        for acceleration, env in zip(("off", "eager"), envs)
    ]
    np.testing.assert_allclose(*rewards, rtol=1e-5)


class Counting(FlattenExtractor):
    """Keeps statistics of what it is asked in a rollout, as some networks do to normalise."""

    def __init__(self, observation_space: Any):
        super().__init__(observation_space)
        self.asked = 0

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.asked += 0 if self.training else 1
        return super().forward(observations)


def test_a_network_that_remembers_is_asked_as_often_as_by_sb3() -> None:
    asked = []
    for acceleration in ("off", "eager"):
        kwargs = {"features_extractor_class": Counting}
        model = build(PPOClip, env=make_env("vector"), acceleration=acceleration, n_steps=12, policy_kwargs=kwargs)
        collect_rollout(model)
        asked.append(model.policy.features_extractor.asked)
    assert model.acceleration_report()["sampling"] == "closed form"
    assert asked[0] == asked[1]


class Curious(BaseCallback):
    """Does during a rollout what callbacks do: copies, pickles, asks."""

    def _on_step(self) -> bool:
        policy = copy.deepcopy(self.model.policy)
        again = pickle.loads(pickle.dumps(self.model.policy))
        observation = self.training_env.reset() if self.n_calls == 1 else self.locals["new_obs"]
        for one in (self.model.policy, policy, again):
            tensor, _ = one.obs_to_tensor(observation)
            assert isinstance(tensor, th.Tensor)
            assert one.predict_values(tensor).shape == (4, 1)
            assert module_obstacle(one) is None
        assert copy.deepcopy(self.model.policy.obs_to_tensor)(observation)[0].shape[0] == 4
        self.report = self.model.acceleration_report()
        return True


class Spy(BaseCallback):
    """Puts a method of its own onto the policy while a rollout is collected."""

    def _on_rollout_start(self) -> None:
        self.model.policy.predict_values = self.spy

    def _on_step(self) -> bool:
        return True

    def spy(self, obs: Any) -> Any:
        return type(self.model.policy).predict_values(self.model.policy, obs)


def test_what_a_callback_puts_onto_the_policy_stays_there() -> None:
    spy = Spy()
    model = build(PPOPenalty, env=make_env("vector"), n_steps=12).learn(48, callback=spy)
    assert model.policy.predict_values == spy.spy


def test_callbacks_find_the_model_as_it_is() -> None:
    model = build(PPOPenalty, env=make_env("vector"), n_steps=12)
    before, callback = model.acceleration_report(), Curious()
    made = model._acceleration
    model.learn(48, callback=callback)
    assert callback.report == before
    assert model._acceleration is made

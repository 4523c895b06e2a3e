"""Values of cut-off episodes: SB3's numbers, in one pass for all of a step."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import OBSERVATION_SPACES, TinyEnv
from hosts import build
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_ppo_variants import MaskablePPOClip, PPOClip, PPOPenalty, RecurrentPPOClip
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
    _, callback = model._setup_learn(48)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=12)
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
            monkeypatch.setitem(_OF_SB3[base], "predict_values", watched)
    _, callback = model._setup_learn(48)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=12)
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
    patched.policy.predict_values = patched.policy.predict_values
    models = [PPOClip(Own, make_env("vector"), device="cpu"), build(RecurrentPPOClip, "box"), patched]
    assert {bootstrap_obstacle(model) for model in models} == {"the policy overrides predict_values()"}


def test_a_loop_of_its_own_is_given_observations() -> None:
    class OwnLoop(PPOClip):
        def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
            return super().collect_rollouts(*args, **kwargs)

    assert bootstrap_obstacle(build(OwnLoop)) == "the algorithm collects rollouts in its own way"
    assert bootstrap_obstacle(build(MaskablePPOClip)) is None


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
        self.report = self.model.acceleration_report()
        return True


def test_callbacks_find_the_model_as_it_is() -> None:
    model = build(PPOPenalty, env=make_env("vector"), n_steps=12)
    before, callback = model.acceleration_report(), Curious()
    made = model._acceleration
    model.learn(48, callback=callback)
    assert callback.report == before
    assert model._acceleration is made

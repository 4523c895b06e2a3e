"""What only the maskable or only the recurrent host has: masks, hidden states, padding."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from environments import make_env, make_vec_env
from hosts import DISCRETE, HOSTS, VARIANTS, build
from sb3_contrib.common.envs import InvalidActionEnvDiscrete, InvalidActionEnvMultiBinary, InvalidActionEnvMultiDiscrete
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.evaluation import evaluate_policy as evaluate_unmasked
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ppo_variants.update.policy_evaluation import evaluate_minibatch, valid_steps

MASKABLE = [pytest.param(cls, id=name) for name, cls in VARIANTS.items() if name.startswith("Maskable")]
RECURRENT = [pytest.param(cls, id=name) for name, cls in VARIANTS.items() if name.startswith("Recurrent")]
INVALID_ACTION_ENVS = {
    "discrete": lambda: InvalidActionEnvDiscrete(dim=6, n_invalid_actions=3, ep_length=9),
    "multi_discrete": lambda: InvalidActionEnvMultiDiscrete(dims=[3, 4], n_invalid_actions=3, ep_length=9),
    "multi_binary": lambda: InvalidActionEnvMultiBinary(dims=3, n_invalid_actions=2, ep_length=9),
}

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


class Checked(gym.Wrapper[Any, Any, Any, Any]):
    """Fails when an action comes that its mask forbids."""

    def step(self, action: Any) -> Any:
        space, masks = self.action_space, self.get_wrapper_attr("action_masks")()
        sizes = {gym.spaces.Discrete: lambda: [space.n], gym.spaces.MultiDiscrete: lambda: space.nvec}
        blocks = np.split(np.asarray(masks), np.cumsum(sizes.get(type(space), lambda: [2] * space.n)())[:-1])
        assert all(block[int(choice)] for block, choice in zip(blocks, np.atleast_1d(action)))
        self.steps_checked = getattr(self, "steps_checked", 0) + 1
        return super().step(action)

    def action_masks(self) -> Any:
        return self.env.get_wrapper_attr("action_masks")()


def checked_env(action: str) -> DummyVecEnv:
    return DummyVecEnv([lambda: Monitor(Checked(INVALID_ACTION_ENVS[action]()))] * 2)


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@pytest.mark.parametrize("action", DISCRETE)
@pytest.mark.parametrize("cls", MASKABLE)
def test_no_invalid_action_is_ever_taken(cls: type[Any], action: str, acceleration: str) -> None:
    env, evaluation = checked_env(action), checked_env(action)
    callback = MaskableEvalCallback(evaluation, eval_freq=20, n_eval_episodes=3, deterministic=False, verbose=0)
    model = build(cls, env=env, acceleration=acceleration).learn(100, callback=callback)
    assert sum(env.get_attr("steps_checked")) == 100
    assert callback.n_calls == 50
    assert len(callback.evaluations_results) == 0  # only kept with a log folder
    assert callback.last_mean_reward > -np.inf
    assert evaluate_policy(model, evaluation, n_eval_episodes=4)[0] >= 0
    assert sum(evaluation.get_attr("steps_checked")) > 2 * 27 + 36
    assert th.isfinite(model.policy.action_net.weight).all()


@pytest.mark.parametrize("action", DISCRETE)
@pytest.mark.parametrize("cls", MASKABLE)
def test_predict_takes_masks_as_contrib_does(cls: type[Any], action: str) -> None:
    model = build(cls, action).learn(50)
    stock = build(HOSTS["Maskable"].stock, action)
    stock.set_parameters(model.get_parameters())
    observations = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    masks = get_action_masks(make_vec_env(action))
    for deterministic in (True, False):
        chosen = []
        for one in (model, stock):
            th.manual_seed(0)
            chosen.append(one.predict(observations, deterministic=deterministic, action_masks=masks)[0])
        np.testing.assert_array_equal(*chosen)


@pytest.mark.parametrize("cls", MASKABLE)
def test_an_environment_without_masks_is_refused_unless_masking_is_off(cls: type[Any]) -> None:
    model = build(cls, env=DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    with pytest.raises(ValueError, match="does not support action masking"):
        model.learn(25)
    assert model.num_timesteps == 0
    model.learn(25, use_masking=False)
    assert model.num_timesteps == 25


def test_masks_may_come_from_contrib_s_wrapper_and_cover_images() -> None:
    allowed = np.array([True, False, True])
    env = DummyVecEnv([lambda: ActionMasker(make_env("discrete", "image")(), lambda _: allowed)])
    model = build(VARIANTS["MaskablePPOPenalty"], observation="image", env=env).learn(25)
    assert set(model.rollout_buffer.actions.flatten()) <= {0, 2}


@pytest.mark.parametrize("action", ["box", "multi_discrete"])
@pytest.mark.parametrize("cls", RECURRENT)
def test_predict_carries_the_state_as_contrib_does(cls: type[Any], action: str) -> None:
    model = build(cls, action).learn(50)
    stock = build(HOSTS["Recurrent"].stock, action)
    stock.set_parameters(model.get_parameters())
    observations = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    states: list[Any] = [None, None]
    for starts in ([True, True], [False, False], [False, True]):
        chosen = []
        for i, one in enumerate((model, stock)):
            action_i, states[i] = one.predict(observations, states[i], np.array(starts), deterministic=True)
            chosen.append(action_i)
        np.testing.assert_array_equal(*chosen)
        for ours, theirs in zip(*states):
            assert ours.shape == (1, 2, 6)  # layers, environments, units
            np.testing.assert_array_equal(ours, theirs)
    assert np.isfinite(evaluate_unmasked(model, make_vec_env(action, n_envs=1), n_eval_episodes=3, warn=False)[0])


@pytest.mark.parametrize("cls", RECURRENT)
def test_padding_has_no_influence_on_the_loss_or_any_metric(cls: type[Any]) -> None:
    arguments = {"clip_range_vf": 0.1, "max_kl": 1.0, "ent_coef": 0.1}
    model = build(cls, acceleration="off", learning_rate=0.01, **arguments).learn(50)
    batch = next(model.rollout_buffer.get(50))
    mask = valid_steps(batch)
    assert mask is not None and 0 < (~mask).sum()
    assert mask.sum() == 50
    old = tuple((0.9 * p.detach()).log_softmax(1) for p in evaluate_minibatch(model.policy, batch).parameters)

    def loss_of(minibatch: Any, spoil: bool) -> tuple[th.Tensor, Any, list[th.Tensor]]:
        evaluation = evaluate_minibatch(model.policy, minibatch)
        reference = tuple(p.where(mask[:, None], 7.0) for p in old) if spoil else old
        loss, metrics = model.minibatch_loss(minibatch, evaluation, reference, model.update_coefficients())
        return loss, metrics, list(th.autograd.grad(loss, list(model.policy.parameters()), allow_unused=True))

    fields = ("advantages", "returns", "old_values", "old_log_prob")
    spoiled = batch._replace(**{name: getattr(batch, name).where(mask, -3.0) for name in fields})
    loss, metrics, gradient = loss_of(batch, spoil=False)
    spoiled_loss, spoiled_metrics, spoiled_gradient = loss_of(spoiled, spoil=True)
    assert metrics.kl_divergence > 0
    assert th.equal(loss, spoiled_loss)
    assert th.equal(metrics.row(), spoiled_metrics.row())
    pairs = [(a, b) for a, b in zip(gradient, spoiled_gradient) if a is not None]
    assert len(pairs) > 5
    assert all(th.equal(a, b) for a, b in pairs)

"""The steps of an LSTM policy's rollout through LSTM cells: the rollout is stock's, and what must be left alone is."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from hosts import VARIANTS, build, collect_rollout
from sb3_contrib import RecurrentPPO
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from test_whole_sequences import KINDS, SteppingPolicy
from torch import nn

from sb3_ppo_variants.fast_path.cell_steps import CellSteps, cell_steps_obstacle
from sb3_ppo_variants.fast_path.interception import standing_in

CLIP = VARIANTS["RecurrentPPOClip"]

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize(("action", "observation", "n_envs"), [("box", "vector", 1), ("discrete", "dict", 3)])
def test_a_rollout_is_stock_s(action: str, observation: str, n_envs: int, kind: dict[str, Any]) -> None:
    buffers = []
    for cls in (RecurrentPPO, CLIP):
        model = build(cls, action, observation, n_envs=n_envs, policy_kwargs=kind)
        collect_rollout(model)
        buffers.append(model.rollout_buffer)
    assert model.acceleration_report()["steps"] == "LSTM cells"
    assert buffers[0].episode_starts[1:].any()
    stock, ours = buffers
    for name in ("actions", "values", "log_probs", "advantages", "hidden_states_pi", "cell_states_vf"):
        np.testing.assert_allclose(getattr(ours, name), getattr(stock, name), rtol=1e-4, atol=1e-5, err_msg=name)


def test_no_step_of_a_rollout_takes_an_lstm_for_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(CLIP, n_envs=2)
    collect_rollout(model)  # the check on the first data is done
    monkeypatch.setattr(nn.LSTM, "forward", None)
    collect_rollout(model)


def test_a_hook_on_the_lstm_is_called_at_every_step() -> None:
    model, calls = build(CLIP, n_envs=2), []
    collect_rollout(model)
    model.policy.lstm_actor.register_forward_hook(lambda *_: calls.append(1))
    collect_rollout(model)
    assert len(calls) >= model.n_steps
    assert "hook on lstm_actor" in model.acceleration_report()["steps"]


def test_a_method_that_is_replaced_between_two_rollouts_is_called_and_stays() -> None:
    model, calls = build(CLIP, n_envs=2), []

    def own(*args: Any) -> Any:
        calls.append(1)
        return MlpLstmPolicy._process_sequence(*args)

    model.learn(50)
    model.policy._process_sequence = own
    model.learn(50)
    assert len(calls) > 2 * model.n_steps
    assert model.policy._process_sequence is own
    assert "in its own way" in model.acceleration_report()["steps"]


class Folded(BaseFeaturesExtractor):
    """Gives features of two axes, which contrib makes one."""

    def __init__(self, observation_space: Any):
        super().__init__(observation_space, features_dim=4)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return observations[:, :4].reshape(-1, 2, 2)


def test_other_shapes_are_left_to_contrib() -> None:
    model = build(CLIP, n_envs=2, policy_kwargs={"features_extractor_class": Folded}).learn(50)
    assert model.last_update.epochs_done == 3
    model = build(CLIP, n_envs=2)
    collect_rollout(model)
    states, observations = model._last_lstm_states, th.as_tensor(model._last_obs)
    with th.no_grad(), standing_in(CellSteps(model.policy)):
        values = [model.policy.predict_values(observations, states.vf, th.zeros(shape)) for shape in ((2,), (2, 1))]
    th.testing.assert_close(*values, rtol=1e-5, atol=1e-6)


def test_dropout_between_layers_is_off_in_a_rollout_and_on_elsewhere() -> None:
    kind = {"n_lstm_layers": 2, "lstm_kwargs": {"dropout": 0.5}}
    buffers = []
    for cls in (RecurrentPPO, CLIP):
        model = build(cls, "box", n_envs=2, policy_kwargs=kind)
        collect_rollout(model)
        buffers.append(model.rollout_buffer)
    assert model.acceleration_report()["steps"] == "LSTM cells"
    np.testing.assert_allclose(buffers[1].values, buffers[0].values, rtol=1e-4, atol=1e-5)
    model.policy.set_training_mode(True)
    states, observations = model._last_lstm_states, th.as_tensor(model._last_obs)
    with th.no_grad(), standing_in(CellSteps(model.policy)):
        values = [model.policy.predict_values(observations, states.vf, th.zeros(2)) for _ in range(2)]
    assert not th.equal(*values)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_the_check_notices_states_that_are_not_carried_on(n_envs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step = CellSteps.__call__

    def forgets(self: Any, features: Any, states: Any, starts: Any, lstm: Any) -> Any:
        return step(self, features, tuple(map(th.zeros_like, states)), starts, lstm)

    monkeypatch.setattr(CellSteps, "__call__", forgets)
    model = build(CLIP, n_envs=n_envs)
    with pytest.warns(UserWarning, match="steps of the fast path falls back"):
        collect_rollout(model)


def bidirectional(policy: Any) -> None:
    policy.lstm_critic = nn.LSTM(3, 6, bidirectional=True)


def without_bias(policy: Any) -> None:
    policy.lstm_actor = nn.LSTM(3, 6, bias=False)


def replaced_on_the_policy(policy: Any) -> None:
    policy._process_sequence = lambda *args: MlpLstmPolicy._process_sequence(*args)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (bidirectional, "no plain stack of cells"),
        (without_bias, "no plain stack of cells"),
        (replaced_on_the_policy, "in its own way"),
        (lambda policy: policy.lstm_actor.register_forward_hook(print), "there is a hook on lstm_actor"),
    ],
)
def test_what_it_might_change_is_left_alone(change: Callable[[Any], Any], reason: str) -> None:
    policy = build(CLIP).policy
    assert cell_steps_obstacle(policy) is None
    change(policy)
    assert reason in str(cell_steps_obstacle(policy))


def test_policies_that_step_in_their_own_way_and_those_without_lstm_are_left_alone() -> None:
    own = CLIP(SteppingPolicy, build(CLIP).env, n_steps=25, batch_size=16, device="cpu")
    plain = build(VARIANTS["PPOClip"])
    assert "in its own way" in own.acceleration_report()["steps"]
    assert "'off'" in build(CLIP, acceleration="off").acceleration_report()["steps"]
    assert "no LSTM" in str(cell_steps_obstacle(plain.policy))
    assert "steps" not in plain.acceleration_report()


class Copies(BaseCallback):
    """Copies and pickles the policy in the middle of a rollout, and asks it for gradients, as callbacks may."""

    copies: tuple[Any, ...] = ()
    differentiable = False

    def _on_step(self) -> bool:
        policy = self.model.policy
        if self.n_calls == 3:
            self.copies = copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))
            states, starts = self.locals["lstm_states"], self.locals["episode_starts"]
            values = policy.predict_values(self.locals["obs_tensor"], states.vf, starts)
            self.differentiable = values.requires_grad
        return True


def test_callbacks_can_copy_the_policy_and_differentiate_it() -> None:
    model, callback = build(CLIP, "box"), Copies()
    model.learn(50, callback=callback)
    assert callback.differentiable
    for policy in callback.copies:
        assert policy._process_sequence is MlpLstmPolicy._process_sequence
        assert cell_steps_obstacle(policy) is None
        actions, _ = policy.predict(model.env.reset(), deterministic=True)
        assert np.isfinite(actions).all()
    assert "_process_sequence" not in vars(model.policy)
    assert all(th.isfinite(p).all() for p in model.policy.parameters())

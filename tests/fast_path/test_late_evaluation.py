"""Values and log-probabilities computed at the end of a rollout: SB3's numbers, whoever looks on."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import TinyEnv, make_vec_env
from gymnasium import spaces
from hosts import build, identical
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecNormalize
from torch import nn

from sb3_ppo_variants import MaskablePPOClip, PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import TrustRegionRecorder
from sb3_ppo_variants.fast_path.late_evaluation import LateEvaluation, has_onlooker, late_obstacle
from sb3_ppo_variants.fast_path.lean_rollout import NumpyForward
from sb3_ppo_variants.update.distributions import Categorical
from sb3_ppo_variants.update.distributions import _known as known_distributions


class Onlooker(BaseCallback):
    """Keeps what a step's locals say."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []
        self.log_probs: list[Any] = []

    def _on_step(self) -> bool:
        self.values.append(self.locals["values"].numpy().flatten())
        self.log_probs.append(self.locals["log_probs"].numpy())
        return True


def collected(acceleration: str, callback: Any = None, **arguments: Any) -> Any:
    model = build(PPOClip, acceleration=acceleration, **arguments)
    _, root = model._setup_learn(10_000, callback)
    model.collect_rollouts(model.env, root, model.rollout_buffer, model.n_steps)
    return model


def assert_close_to(found: RolloutBuffer, stock: RolloutBuffer, steps: int) -> None:
    for name in ("actions", "values", "log_probs"):
        np.testing.assert_allclose(getattr(found, name)[:steps], getattr(stock, name)[:steps], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n_envs", "n_steps"), [(1, 300), (3, 100), (2, 25)])
@pytest.mark.parametrize("action", ["discrete", "box", "multi_discrete", "multi_binary"])
def test_the_buffer_holds_what_stock_s_does(action: str, n_envs: int, n_steps: int) -> None:
    arguments = {"action": action, "n_envs": n_envs, "n_steps": n_steps}
    found, stock = (collected(acceleration, **arguments).rollout_buffer for acceleration in ("eager", "off"))
    assert_close_to(found, stock, n_steps)
    for name in ("advantages", "returns"):
        np.testing.assert_allclose(getattr(found, name), getattr(stock, name), rtol=1e-4, atol=1e-5)


def test_gsde_too() -> None:
    arguments = {"action": "box", "use_sde": True, "sde_sample_freq": 4, "n_steps": 100}
    found, stock = (collected(acceleration, **arguments).rollout_buffer for acceleration in ("eager", "off"))
    assert_close_to(found, stock, 100)


@pytest.mark.parametrize("action", ["discrete", "box"])
def test_it_is_the_same_training_whoever_looks_on(action: str) -> None:
    onlooker = Onlooker()
    alone = build(PPOPenalty, action=action).learn(100, callback=StopTrainingOnMaxEpisodes(1_000))
    watched = build(PPOPenalty, action=action).learn(100, callback=onlooker)
    assert identical(alone, watched)
    last = np.array(onlooker.values[-25:]), np.array(onlooker.log_probs[-25:])  # in the order of the steps
    buffer = watched.rollout_buffer  # which its update has flattened: environment after environment
    np.testing.assert_allclose(buffer.values.reshape(2, 25).T, last[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(buffer.log_probs.reshape(2, 25).T, last[1], rtol=1e-5, atol=1e-6)


def watch_steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Keep the values in the locals of each step, unseen by :func:`has_onlooker`."""
    seen: list[Any] = []

    def _on_step(self: Any) -> bool:
        seen.append(self.locals["values"])
        return True

    _on_step.__module__ = StopTrainingOnMaxEpisodes.__module__
    monkeypatch.setattr(StopTrainingOnMaxEpisodes, "_on_step", _on_step)
    return seen


def test_only_the_first_rollout_evaluates_each_step_if_nobody_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_steps(monkeypatch)
    model = build(PPOClip).learn(150, callback=StopTrainingOnMaxEpisodes(1_000))
    first, later = seen[:25], seen[25:]
    assert len(later) == 50 and all(values.isnan().all() for values in later)
    assert not any(values.isnan().any() for values in first)
    assert np.isfinite(model.rollout_buffer.values).all() and np.isfinite(model.rollout_buffer.log_probs).all()


class Ends(StopTrainingOnMaxEpisodes):
    """Ends training at the 36th step, or is interrupted there, as by ctrl-c."""

    __module__ = StopTrainingOnMaxEpisodes.__module__
    interrupted = False

    def _on_step(self) -> bool:
        if self.n_calls == 36 and self.interrupted:
            raise KeyboardInterrupt
        return self.n_calls != 36


Ends._on_step.__module__ = StopTrainingOnMaxEpisodes.__module__


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_rollout_that_ends_early_is_evaluated_as_far_as_it_goes(
    interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ends, "interrupted", interrupted)
    buffers = []
    for acceleration in ("eager", "off"):
        model = build(PPOClip, acceleration=acceleration, learning_rate=0.0)
        try:
            model.learn(100, callback=Ends(1_000))
        except KeyboardInterrupt:
            assert interrupted
        buffers.append(model.rollout_buffer)
    assert [buffer.pos for buffer in buffers] == [10, 10]  # SB3 adds a step after its callback
    assert_close_to(*buffers, 10)


class Alters(BaseCallback):
    """Alters something of every step of a rollout."""

    def __init__(self, what: str):
        super().__init__()
        self.what = what

    def _on_step(self) -> bool:
        model: Any = self.model
        buffer, weights = model.rollout_buffer, model.policy.state_dict()
        if self.what == "memory" and self.n_calls == 10:
            weight = model.policy.action_net.weight
            weight.data = weight.data.clone() + 0.5
        elif self.what == "weights and back":
            sign = 0.3 if self.n_calls % 2 else -0.3
            model.policy.load_state_dict({name: value + sign for name, value in weights.items()})
        elif self.what == "values":
            self.locals["values"].clamp_(-0.1, 0.1)
        elif self.what == "buffer" and buffer.pos:
            buffer.values[buffer.pos - 1] = 7.0
        elif self.what == "observations":
            model._last_obs[:] *= 0.5
        return True


@pytest.mark.parametrize("what", ["memory", "weights and back", "values", "buffer", "observations"])
def test_what_a_callback_alters_counts_as_in_stock(what: str) -> None:
    found, stock = (collected(acceleration, Alters(what)).rollout_buffer for acceleration in ("eager", "off"))
    assert_close_to(found, stock, 25)


class Around(VecEnvWrapper):
    """An environment that asks the policy, and alters it: ``model`` is set afterwards."""

    model: Any = None

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        with th.no_grad():
            _, values, _ = self.model.policy(th.as_tensor(observations))
            self.model.policy.value_net.bias += 0.01
        return observations, rewards + 0.1 * values.numpy().flatten(), dones, infos


def test_an_environment_may_ask_and_alter_the_policy() -> None:
    buffers = []
    for acceleration in ("eager", "off"):
        env = Around(make_vec_env())
        model = env.model = build(PPOClip, env=env, acceleration=acceleration)
        model.learn(100)
        buffers.append(model.rollout_buffer)
    for name in ("values", "rewards", "advantages"):
        np.testing.assert_allclose(*(getattr(buffer, name) for buffer in buffers), rtol=1e-3, atol=1e-4)


class AsksTwice(TinyEnv):
    """Asks the policy in its step: an environment within a VecEnv is not looked for."""

    model: Any = None

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        if AsksTwice.model is not None:
            with th.no_grad():
                values = AsksTwice.model.policy(th.as_tensor(observation)[None])[1]
            assert np.isfinite(float(values))
        return observation, reward, *rest


def test_somebody_else_who_asks_gets_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(PPOClip, env=DummyVecEnv([AsksTwice]))
    monkeypatch.setattr(AsksTwice, "model", model)
    model.learn(75)
    assert np.isfinite(model.rollout_buffer.values).all()


def test_observations_that_the_buffer_rounds_are_evaluated_as_they_were() -> None:
    space = spaces.Box(-100, 100, (4,), np.int64)

    class Whole(TinyEnv):
        observation_space = space

        def __init__(self) -> None:
            super().__init__()
            self.observation_space = space

        def _observation(self) -> Any:
            return np.rint(30 * self.state).astype(np.int64)

    def rolled(acceleration: str) -> RolloutBuffer:
        buffer: RolloutBuffer = collected(acceleration, env=VecNormalize(DummyVecEnv([Whole]))).rollout_buffer
        return buffer

    assert_close_to(rolled("eager"), rolled("off"), 25)


class Halves(np.ndarray):
    """Keeps what half precision has room for."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, np.asarray(value, dtype=np.float16))


def test_a_buffer_that_rounds_gets_each_step_s() -> None:
    models = [build(PPOClip, acceleration=acceleration) for acceleration in ("off", "eager")]
    for model in models:
        _, root = model._setup_learn(10_000)
        model.set_random_seed(1)
        reset = model.rollout_buffer.reset

        def in_half(buffer: Any = model.rollout_buffer, reset: Any = reset) -> None:
            reset()
            buffer.observations = buffer.observations.view(Halves)

        model.rollout_buffer.reset = in_half
        model.collect_rollouts(model.env, root, model.rollout_buffer, model.n_steps)
    off, eager = (model.rollout_buffer for model in models)
    assert_close_to(eager, off, 25)


def two_trainings(action: str, bias: float, scale: float, **arguments: Any) -> tuple[Any, Any]:
    """Train alone and beside an onlooker, from the same seed: actions nearly certain, observations large."""
    trained = []
    for callback in (None, Onlooker()):
        env = make_vec_env(action, reward_scale=1.0)
        model = build(PPOClip, action=action, env=env, **arguments)
        with th.no_grad():
            model.policy.action_net.bias[0] += bias
            model.policy.mlp_extractor.policy_net[0].weight.mul_(scale)
            model.policy.mlp_extractor.value_net[0].weight.mul_(scale)
        trained.append(model.learn(200, callback=callback))
    return trained[0], trained[1]


def test_nan_is_no_alteration(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []
    is_altered = LateEvaluation._is_altered
    monkeypatch.setattr(LateEvaluation, "_is_altered", lambda *args: found.append(is_altered(*args)) or found[-1])
    model = build(PPOClip, n_steps=64)
    for value_of_weights in (1.0, np.inf):  # of which the sums are NaN
        with th.no_grad():
            model.policy.value_net.weight.fill_(value_of_weights)
        _, callback = model._setup_learn(10_000, Onlooker())
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    assert np.isnan(model.rollout_buffer.values).all()
    assert found == [False, False]


def test_one_large_value_hides_no_alteration() -> None:
    class Nudges(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls % 3 == 0:
                self.locals["values"].add_(0.01)
            return True

    class Jump(TinyEnv):
        def _observation(self) -> Any:
            return super()._observation() * (1e4 if self.steps == 2 else 1)

    space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    arguments = {"policy_kwargs": {"activation_fn": nn.ReLU}}

    def rolled(acceleration: str) -> Any:
        def make() -> Any:
            env = Jump()
            env.observation_space = space
            return env

        return collected(acceleration, Nudges(), env=DummyVecEnv([make]), **arguments).rollout_buffer

    found, stock = rolled("eager"), rolled("off")
    np.testing.assert_allclose(found.values, stock.values, rtol=1e-4, atol=1e-5)


def test_ctrl_c_within_the_evaluation_leaves_no_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(PPOClip).learn(50)
    evaluate, calls = LateEvaluation._evaluate, []

    def interrupted(self: Any, steps: Any) -> Any:
        calls.append(steps)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return evaluate(self, steps)

    monkeypatch.setattr(LateEvaluation, "_evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.learn(50)
    assert len(calls) == 2
    assert np.isfinite(model.rollout_buffer.values).all()


def test_a_buffer_given_to_collect_rollouts_is_filled() -> None:
    model = build(PPOClip).learn(50)
    _, root = model._setup_learn(10_000)
    settings = {"gamma": model.gamma, "gae_lambda": model.gae_lambda, "n_envs": 2}
    other = RolloutBuffer(25, model.observation_space, model.action_space, "cpu", **settings)
    model.collect_rollouts(model.env, root, other, 25)
    assert np.isfinite(other.values).all() and np.isfinite(other.advantages).all()


class Copies(StopTrainingOnMaxEpisodes):
    """Pickles the buffer at the end of each rollout."""

    __module__ = StopTrainingOnMaxEpisodes.__module__

    def _on_rollout_end(self) -> None:
        self.pickled = pickle.dumps(self.model.rollout_buffer)  # type: ignore[attr-defined]
        copy.deepcopy(self.model.rollout_buffer)  # type: ignore[attr-defined]


def test_a_copy_of_the_buffer_holds_no_policy() -> None:
    callback = Copies(1_000)
    build(PPOClip, policy_kwargs={"net_arch": [128]}).learn(100, callback=callback)
    assert len(callback.pickled) < 10_000


class OwnAdd(RolloutBuffer):
    def add(self, *args: Any, **kwargs: Any) -> None:
        assert not th.isnan(args[4]).any()
        super().add(*args, **kwargs)


class OwnReturns(RolloutBuffer):
    def compute_returns_and_advantage(self, last_values: th.Tensor, dones: np.ndarray) -> None:
        assert not np.isnan(self.values).any()
        super().compute_returns_and_advantage(last_values, dones)


class OwnCollection(PPOClip):
    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        return super().collect_rollouts(*args, **kwargs)


@pytest.mark.parametrize("own", [OwnAdd, OwnReturns])
def test_somebody_s_own_buffer_gets_each_step_s(own: type[RolloutBuffer]) -> None:
    model = build(PPOClip, rollout_buffer_class=own).learn(150)
    assert np.isfinite(model.rollout_buffer.values).all()


class Cooler(Categorical):
    """Samples otherwise than its base class, whose ``act`` it inherits."""

    def sample(self, policy: Any, output: Any, context: Any) -> Any:
        return super().sample(policy, 2 * output, context)


def obstacle(cls: type[Any], **arguments: Any) -> str | None:
    model = build(cls, **arguments)
    model._setup_learn(10_000)
    return late_obstacle(NumpyForward(model.policy), model, model.rollout_buffer)


def test_what_speaks_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert obstacle(PPOClip) is None
    assert "in its own way" in str(obstacle(OwnCollection))
    assert "the rollout buffer" in str(obstacle(MaskablePPOClip))
    assert "the rollout buffer" in str(obstacle(PPOClip, observation="vectors"))
    monkeypatch.setitem(known_distributions, CategoricalDistribution, Cooler())
    assert "a sample() of its own" in str(obstacle(PPOClip))


class OwnHook(PPOClip):
    def _update_info_buffer(self, *args: Any) -> None:
        super()._update_info_buffer(*args)


def test_who_is_an_onlooker(tmp_path: Any) -> None:
    env, model = make_vec_env(), build(PPOClip)
    known = [
        ConvertCallback(None),
        CallbackList([CheckpointCallback(10, str(tmp_path)), TrustRegionRecorder(tmp_path / "a.csv")]),
        EvalCallback(env, callback_after_eval=StopTrainingOnMaxEpisodes(3)),
    ]
    assert not any(has_onlooker(model, VecNormalize(env), callback) for callback in known)
    patched, patched_later = StopTrainingOnMaxEpisodes(3), StopTrainingOnMaxEpisodes(3)
    patched._on_step = lambda: True  # type: ignore[method-assign]
    patched_later._on_rollout_end = lambda: None  # type: ignore[method-assign]
    foreign = [
        Onlooker(),
        ConvertCallback(lambda local, _: True),
        CallbackList([CheckpointCallback(10, str(tmp_path)), Onlooker()]),
        EvalCallback(env, callback_after_eval=Onlooker()),
        EveryNTimesteps(10, Onlooker()),
        patched,
        patched_later,
    ]
    assert all(has_onlooker(model, env, callback) for callback in foreign)
    assert has_onlooker(model, VecNormalize(Around(env)), ConvertCallback(None))
    assert has_onlooker(build(OwnHook), env, ConvertCallback(None))
    for attribute in ("step_wait", "reset"):
        patched_env = make_vec_env()
        setattr(patched_env, attribute, getattr(patched_env, attribute))
        assert has_onlooker(model, VecNormalize(patched_env), ConvertCallback(None))
    patched_model = build(PPOClip)
    patched_model._update_info_buffer = patched_model._update_info_buffer
    assert has_onlooker(patched_model, env, ConvertCallback(None))
    own_policy = type("OwnPolicy", (ActorCriticPolicy,), {"__module__": __name__})
    assert has_onlooker(PPOClip(own_policy, env), env, ConvertCallback(None))

"""Values and log-probabilities computed at the end of a rollout: SB3's numbers, whoever looks on."""

from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from hosts import build, collect_rollout, identical
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

from sb3_ppo_variants import MaskablePPOClip, PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import TrustRegionRecorder
from sb3_ppo_variants.fast_path import late_evaluation
from sb3_ppo_variants.fast_path.closed_forms import closed_form_of
from sb3_ppo_variants.fast_path.late_evaluation import late_obstacle, may_read_values


class Onlooker(BaseCallback):
    """Keeps what a step's locals say; ends training at a step, if one is given."""

    def __init__(self, until: int | None = None):
        super().__init__()
        self.values: list[Any] = []
        self.log_probs: list[Any] = []
        self.until = until

    def _on_step(self) -> bool:
        self.values.append(self.locals["values"].numpy().flatten())
        self.log_probs.append(self.locals["log_probs"].numpy())
        return len(self.values) != self.until


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


def test_beside_callbacks_that_read_nothing_no_step_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def _on_step(self: Any) -> bool:
        seen.append(self.locals["values"])
        return True

    monkeypatch.setattr(StopTrainingOnMaxEpisodes, "_on_step", _on_step)
    buffer = collected("eager", StopTrainingOnMaxEpisodes(1_000)).rollout_buffer
    assert len(seen) == 25 and all(values.isnan().all() for values in seen)
    assert np.isfinite(buffer.values).all() and np.isfinite(buffer.log_probs).all()


def test_a_rollout_that_ends_early_is_evaluated_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_evaluation, "may_read_values", lambda callback: False)
    monkeypatch.setattr("sb3_ppo_variants.fast_path.acceleration.may_read_values", lambda callback: False)
    found, stock = (collected(acceleration, Onlooker(until=11)).rollout_buffer for acceleration in ("eager", "off"))
    assert found.pos == stock.pos == 10  # SB3 adds a step after its callback
    assert_close_to(found, stock, 10)


class MovesParameters(BaseCallback):
    """Gives a parameter other memory and other numbers, within a rollout."""

    def _on_step(self) -> bool:
        if self.n_calls == 10:
            weight = self.model.policy.action_net.weight
            weight.data = weight.data.clone() + 0.5
        return True


def test_steps_that_the_policy_itself_evaluates_keep_what_it_says() -> None:
    found, stock = (collected(acceleration, MovesParameters()).rollout_buffer for acceleration in ("eager", "off"))
    assert_close_to(found, stock, 25)


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
    model = build(PPOClip, rollout_buffer_class=own)
    assert late_obstacle(model, closed_form_of(model.policy)) is not None
    collect_rollout(model)
    assert np.isfinite(model.rollout_buffer.values).all()


def test_what_else_speaks_against_it() -> None:
    plain, own, masked = build(PPOClip), build(OwnCollection), build(MaskablePPOClip)
    assert late_obstacle(plain, closed_form_of(plain.policy)) is None
    assert "in its own way" in str(late_obstacle(own, closed_form_of(own.policy)))
    assert "buffer" in str(late_obstacle(masked, closed_form_of(masked.policy)))


def test_which_callbacks_may_read_values(tmp_path: Any) -> None:
    env = make_vec_env()
    known = [
        ConvertCallback(None),
        CallbackList([CheckpointCallback(10, str(tmp_path)), TrustRegionRecorder(tmp_path / "a.csv")]),
        EvalCallback(env, callback_after_eval=StopTrainingOnMaxEpisodes(3)),
    ]
    assert not any(map(may_read_values, known))
    patched = StopTrainingOnMaxEpisodes(3)
    patched._on_step = lambda: True  # type: ignore[method-assign]
    foreign = [
        Onlooker(),
        ConvertCallback(lambda local, _: True),
        CallbackList([CheckpointCallback(10, str(tmp_path)), Onlooker()]),
        EvalCallback(env, callback_after_eval=Onlooker()),
        EveryNTimesteps(10, Onlooker()),
        patched,
    ]
    assert all(map(may_read_values, foreign))

"""The live state (beta, clip_scale) survives every way in which SB3 and rl-zoo3 write and read a model."""

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from environments import make_vec_env
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.utils import LinearSchedule

from sb3_ppo_variants import PPOAdaptiveClip, PPOAdaptiveLR, PPOClip, PPOPenalty

SETTINGS: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "device": "cpu", "seed": 1}
ROLLOUT = 32  # steps of one update with two environments
OBSERVATIONS = np.linspace(-1.0, 1.0, 24, dtype=np.float32).reshape(6, 4)
# A set point far below (and above) any KL these runs reach, so that the state moves by one step at every update.
RULE: dict[str, Any] = {"adaptation_factor": 2.0, "kl_tolerance": 1.5, "adapt_after": "update", "max_kl": None}


@pytest.fixture(autouse=True)
def every_kl_moves_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the coefficient is what limits the KL is not the question here."""
    for cls in (PPOPenalty, PPOAdaptiveClip):
        monkeypatch.setattr(cls, "limits_kl", lambda self, kl: True)


LOW, HIGH = {**RULE, "target_kl": 1e-7}, {**RULE, "target_kl": 1e3}
ADAPTIVE = [
    pytest.param(PPOPenalty, "beta", LOW, 4.0, id="beta"),
    pytest.param(PPOPenalty, "beta", HIGH, 0.25, id="falling_beta"),
    pytest.param(PPOAdaptiveClip, "clip_scale", LOW, 0.25, id="clip_scale"),
    pytest.param(PPOAdaptiveClip, "clip_scale", HIGH, 4.0, id="rising_clip_scale"),
]


def make(cls: type[PPO], action: str = "discrete", **arguments: Any) -> Any:
    ours = {} if cls is PPO else {"acceleration": "off"}
    policy_kwargs = {"net_arch": [8]}
    return cls("MlpPolicy", make_vec_env(action), policy_kwargs=policy_kwargs, **{**SETTINGS, **ours, **arguments})


def after_two_updates(cls: type[PPO], name: str, arguments: dict[str, Any], expected: float) -> Any:
    """Train until the live state is two steps away from where it starts."""
    model = make(cls, **arguments).learn(2 * ROLLOUT)
    assert getattr(model, name) == expected
    return model


def first_logged(model: Any, name: str) -> float:
    """Continue for one update and return what it logged as the state it began with."""
    model.learn(ROLLOUT, reset_num_timesteps=False)
    return float(model.logger.name_to_value[f"train/{name}"])


def assert_state(model: Any, name: str, expected: float) -> None:
    value = getattr(model, name)
    assert value == expected
    assert type(value) is float


def assert_same_networks(first: PPO, second: PPO) -> None:
    one, two = first.policy.state_dict(), second.policy.state_dict()
    assert one.keys() == two.keys()
    assert all(th.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(("cls", "name", "arguments", "expected"), ADAPTIVE)
@pytest.mark.parametrize("with_env", [False, True])
def test_state_survives_load(
    cls: type[PPO], name: str, arguments: dict[str, Any], expected: float, with_env: bool, tmp_path: Path
) -> None:
    model = after_two_updates(cls, name, arguments, expected)
    model.save(tmp_path / "model")
    loaded: Any = cls.load(tmp_path / "model", device="cpu", **({"env": make_vec_env(n_envs=3)} if with_env else {}))

    assert_state(loaded, name, expected)
    assert_same_networks(loaded, model)
    if with_env:
        loaded.learn(48, reset_num_timesteps=False)
        assert loaded.logger.name_to_value[f"train/{name}"] == expected


@pytest.mark.parametrize(("cls", "name", "arguments", "expected"), ADAPTIVE)
@pytest.mark.parametrize("source", ["path", "string", "file"])
def test_set_parameters_from_a_saved_model_brings_the_state_along(
    cls: type[PPO], name: str, arguments: dict[str, Any], expected: float, source: str, tmp_path: Path
) -> None:
    model = after_two_updates(cls, name, arguments, expected)
    saved: Any = {"path": tmp_path / "model.zip", "string": str(tmp_path / "model.zip"), "file": io.BytesIO()}[source]
    model.save(saved)
    other = make(cls, **{**arguments, "seed": 9})
    before = getattr(other, name)
    other.set_parameters(saved, device="cpu")

    assert before != expected
    assert_state(other, name, expected)
    assert_same_networks(other, model)
    assert first_logged(other, name) == expected


@pytest.mark.parametrize(("cls", "name", "arguments", "expected"), ADAPTIVE)
def test_set_parameters_from_a_dictionary_keeps_the_state(
    cls: type[PPO], name: str, arguments: dict[str, Any], expected: float
) -> None:
    model = after_two_updates(cls, name, arguments, expected)
    fresh = make(cls, **arguments)
    fresh_value = getattr(fresh, name)
    fresh.set_parameters(model.get_parameters(), device="cpu")
    assert_state(fresh, name, fresh_value)
    model.set_parameters(fresh.get_parameters(), device="cpu")
    assert_state(model, name, expected)


@pytest.mark.parametrize(("cls", "name", "arguments", "expected"), ADAPTIVE)
def test_a_run_continued_from_a_checkpoint_starts_with_the_checkpoint_s_state(
    cls: type[PPO], name: str, arguments: dict[str, Any], expected: float, tmp_path: Path
) -> None:
    # Saved at the first step of the third rollout: after two updates and before the third.
    callback = CheckpointCallback(save_freq=2 * SETTINGS["n_steps"] + 1, save_path=str(tmp_path), name_prefix="run")
    model = make(cls, **arguments).learn(3 * ROLLOUT, callback=callback)
    assert getattr(model, name) != expected  # the run itself has moved on

    continued: Any = cls.load(tmp_path / "run_66_steps", env=make_vec_env(), device="cpu")
    assert_state(continued, name, expected)
    assert first_logged(continued, name) == expected


@pytest.mark.parametrize(("cls", "name", "arguments", "expected"), ADAPTIVE)
def test_resuming_as_rl_zoo3_does_keeps_the_state(
    cls: type[PPO], name: str, arguments: dict[str, Any], expected: float, tmp_path: Path
) -> None:
    """``rl_zoo3.train -i`` passes every YAML value to ``load``, which overwrites attributes of those names."""
    yaml_like: dict[str, Any] = {
        **arguments,
        "n_steps": 16,
        "batch_size": 16,
        "n_epochs": 2,
        "clip_range": LinearSchedule(0.2, 0.0, 1.0),
        "learning_rate": LinearSchedule(3e-4, 0.0, 1.0),
        "ent_coef": 0.0,
        "normalize_advantage": True,
        "acceleration": "off",
        **({"initial_beta": 1.0, "adaptive_beta": True} if cls is PPOPenalty else {"clip_range_bounds": (0.01, 1.0)}),
    }
    model = make(cls, **yaml_like).learn(3 * ROLLOUT)  # a linear schedule ends at 0: the last step undoes one
    value = getattr(model, name)
    assert value != getattr(make(cls, **yaml_like), name)
    model.save(tmp_path / "model")
    resumed: Any = cls.load(
        tmp_path / "model", env=make_vec_env(), seed=0, tensorboard_log=None, verbose=0, device="cpu", **yaml_like
    )

    assert_state(resumed, name, value)
    assert first_logged(resumed, name) == value
    assert resumed.lr_schedule(0.5) == pytest.approx(1.5e-4)
    assert resumed.clip_range(0.5) == pytest.approx(0.1)


@pytest.mark.parametrize("initial_beta", [1, 2.5, np.float64(1.0)])
def test_beta_is_a_float_before_and_after_training_and_loading(initial_beta: Any, tmp_path: Path) -> None:
    model = make(PPOPenalty, **{**LOW, "initial_beta": initial_beta, "adaptation_factor": 3})
    assert_state(model, "beta", float(initial_beta))
    model.learn(ROLLOUT)
    assert_state(model, "beta", 3 * float(initial_beta))
    model.save(tmp_path / "model")
    assert_state(PPOPenalty.load(tmp_path / "model", device="cpu"), "beta", 3 * float(initial_beta))


@pytest.mark.parametrize(("arguments", "expected"), [(HIGH, 1.0), (LOW, 2.0)])
def test_beta_stays_a_float_at_integer_bounds(arguments: dict[str, Any], expected: float) -> None:
    model = make(PPOPenalty, initial_beta=1, beta_bounds=(1, 2), **arguments).learn(2 * ROLLOUT)
    assert_state(model, "beta", expected)


def test_a_loaded_beta_is_taken_into_new_bounds(tmp_path: Path) -> None:
    make(PPOPenalty, initial_beta=1.0).save(tmp_path / "model")
    wide: dict[str, Any] = {"env": make_vec_env(), "device": "cpu", "kl_tolerance": math.inf}
    for bounds, first, expected in (((5.0, 10.0), 6.0, 5.0), ((0.01, 0.1), 0.05, 0.1)):
        loaded: Any = PPOPenalty.load(tmp_path / "model", beta_bounds=bounds, initial_beta=first, **wide)
        assert first_logged(loaded, "beta") == expected
    fixed: Any = PPOPenalty.load(tmp_path / "model", adaptive_beta=False, beta_bounds=(5.0, 10.0), **wide)
    assert first_logged(fixed, "beta") == 1.0


def test_a_beta_set_by_hand_is_saved(tmp_path: Path) -> None:
    model = make(PPOPenalty, adaptive_beta=False)
    model.beta = 7.5
    model.save(tmp_path / "model")
    loaded: Any = PPOPenalty.load(tmp_path / "model", env=make_vec_env(), device="cpu")
    assert first_logged(loaded, "beta") == 7.5


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip, PPOAdaptiveLR])
@pytest.mark.parametrize("action", ["discrete", "box"])
def test_a_model_loaded_as_rl_zoo3_enjoy_does_predicts_the_same(cls: type[PPO], action: str, tmp_path: Path) -> None:
    model = make(cls, action).learn(2 * ROLLOUT)
    model.save(tmp_path / "model")
    dummies: dict[str, Any] = {"clip_range": lambda _: 0.0, "lr_schedule": lambda _: 0.0, "learning_rate": 0.0}
    enjoyed = cls.load(tmp_path / "model", custom_objects=dummies, device="cpu")
    loaded = cls.load(tmp_path / "model", device="cpu")

    expected, _ = model.predict(OBSERVATIONS, deterministic=True)
    for other in (enjoyed, loaded):
        np.testing.assert_array_equal(other.predict(OBSERVATIONS, deterministic=True)[0], expected)
    th.manual_seed(0)
    sampled, _ = model.predict(OBSERVATIONS)
    th.manual_seed(0)
    np.testing.assert_array_equal(loaded.predict(OBSERVATIONS)[0], sampled)


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip])
def test_parameters_pass_between_stock_ppo_and_ours(cls: type[PPO]) -> None:
    stock = make(PPO, "box").learn(ROLLOUT)
    ours = make(cls, "box", seed=7)
    ours.set_parameters(stock.get_parameters(), device="cpu")
    assert_same_networks(ours, stock)

    ours.learn(ROLLOUT)
    fresh = make(PPO, "box", seed=8)
    fresh.set_parameters(ours.get_parameters(), device="cpu")
    assert_same_networks(fresh, ours)
    fresh.learn(ROLLOUT)
    for old, new in ((stock, ours), (ours, fresh)):
        assert not th.equal(old.policy.log_std, new.policy.log_std)


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip])
def test_a_file_of_stock_ppo_can_be_used_as_parameters(cls: type[PPO], tmp_path: Path) -> None:
    stock = make(PPO).learn(ROLLOUT)
    stock.save(tmp_path / "stock")
    ours = make(cls, seed=7)
    ours.set_parameters(tmp_path / "stock", device="cpu")
    assert_same_networks(ours, stock)
    ours.learn(ROLLOUT)


def test_a_missing_clip_range_stays_infinite(tmp_path: Path) -> None:
    model = make(PPOPenalty).learn(ROLLOUT)
    assert model.clip_range(1.0) == math.inf
    model.save(tmp_path / "model")
    loaded: Any = PPOPenalty.load(tmp_path / "model", env=make_vec_env(), device="cpu")
    again: Any = PPOPenalty.load(tmp_path / "model", env=make_vec_env(), device="cpu", clip_range=None)
    for other in (loaded, again):
        assert other.clip_range(1.0) == math.inf
        other.learn(ROLLOUT)
        assert "train/clip_range" not in other.logger.name_to_value
        assert other.last_update.mean("clip_fraction") == 0.0


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip])
def test_the_trace_of_the_last_update_is_not_saved(cls: type[PPO], tmp_path: Path) -> None:
    model = make(cls).learn(ROLLOUT)
    assert model.last_update is not None
    model.save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert "last_update" not in json.loads(archive.read("data"))
    loaded: Any = cls.load(tmp_path / "model.zip", device="cpu")
    assert loaded.last_update is None


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip])
def test_a_loaded_model_learns_as_the_saved_one_would_have(cls: type[PPO], tmp_path: Path) -> None:
    """Nothing of the update's state is missing from the file: same seed, same environments, same next update."""
    arguments = {} if cls is PPOClip else LOW
    model = make(cls, "box", **arguments).learn(2 * ROLLOUT)
    model.save(tmp_path / "model")
    runs = []
    for _ in range(2):
        loaded: Any = cls.load(tmp_path / "model", env=make_vec_env("box"), device="cpu")
        loaded.set_random_seed(3)
        runs.append(loaded.learn(ROLLOUT, reset_num_timesteps=False))
    model.set_env(make_vec_env("box"))
    model.set_random_seed(3)
    runs.append(model.learn(ROLLOUT, reset_num_timesteps=False))

    assert_same_networks(runs[0], runs[1])
    assert_same_networks(runs[0], runs[2])

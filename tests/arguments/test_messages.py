"""What the hosts say nothing about, or in words that do not help, is said by name."""

import copy
import json
import pickle
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ppo_variants import (
    MaskablePPOPenalty,
    PPOAdaptiveClip,
    PPOClip,
    PPOPenalty,
    RecurrentPPOPenalty,
)
from sb3_ppo_variants.arguments import checks
from sb3_ppo_variants.arguments.masks import explained_masks, warn_of_empty_masks
from sb3_ppo_variants.arguments.schedules import schedule_value

TINY: dict[str, Any] = {"n_steps": 8, "batch_size": 4, "n_epochs": 2, "device": "cpu"}


# --------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("cls", "name", "hint"),
    [
        (PPOPenalty, "dual_clip", "it is an argument of PPOClip"),
        (RecurrentPPOPenalty, "dual_clip", "it is an argument of RecurrentPPOClip"),
        (MaskablePPOPenalty, "clip_range_bounds", "it is an argument of MaskablePPOAdaptiveClip"),
        (PPOClip, "kl_tolerance", "it is an argument of PPOAdaptiveClip and PPOAdaptiveLR and PPOPenalty"),
        (PPOClip, "target_kll", "did you mean `target_kl`?"),
    ],
)
def test_argument_of_another_class_names_that_class(cls: Any, name: str, hint: str) -> None:
    with pytest.raises(TypeError) as error:
        cls("MlpPolicy", "CartPole-v1", **{name: 3.0})
    assert str(error.value) == f"{cls.__name__}() got an unknown argument `{name}`; {hint}"


@pytest.mark.parametrize(
    ("cls", "policy", "message"),
    [
        (
            PPOPenalty,
            "MlpPolicyy",
            "'MlpPolicy', 'CnnPolicy', 'MultiInputPolicy', or a class, got 'MlpPolicyy'; did you",
        ),
        (RecurrentPPOPenalty, "MlpPolicy", "got 'MlpPolicy'; did you mean 'MlpLstmPolicy'?"),
        (PPOClip, "zzz", "got 'zzz'; pick one of them"),
    ],
)
def test_unknown_policy_is_answered_with_the_known_ones(cls: Any, policy: str, message: str) -> None:
    with pytest.raises(ValueError, match="`policy` must be one of 'Mlp") as error:
        cls(policy, "CartPole-v1")
    assert message in str(error.value)


def test_policies_of_a_class_that_finds_them_itself_are_its_own_affair() -> None:
    class Own(PPOClip):
        def _get_policy_from_name(self, policy_name: str) -> Any:
            return self.policy_aliases["MlpPolicy"]

    assert Own("mine", "CartPole-v1", **TINY).policy is not None


@pytest.mark.parametrize(
    ("value", "way_out"), [("dict(net_arch=[8])", "leave the quotes out"), ([8], r"as in dict\(net_arch=\[64, 64\]\)")]
)
def test_settings_of_the_policy_must_be_a_dictionary(value: Any, way_out: str) -> None:
    with pytest.raises(TypeError, match=f"`policy_kwargs` must be a dictionary, got .*; {way_out}"):
        PPOPenalty("MlpPolicy", "CartPole-v1", policy_kwargs=value)


def test_model_without_environment_is_refused_with_the_argument() -> None:
    with pytest.raises(ValueError, match=r"`env` must be an environment or the ID of one, got None"):
        PPOPenalty("MlpPolicy", None, **TINY)
    assert PPOPenalty("MlpPolicy", None, **TINY, _init_setup_model=False).env is None  # as load() does


def test_usual_factor_is_the_default_and_the_papers() -> None:
    with pytest.raises(ValueError, match=r"`adaptation_factor` must be > 1 and finite, got 0\.5; 1\.3 is the default"):
        PPOPenalty("MlpPolicy", "CartPole-v1", adaptation_factor=0.5)
    assert PPOPenalty("MlpPolicy", "CartPole-v1", **TINY).adaptation_factor == 1.3


@pytest.mark.parametrize(("cls", "clip_range"), [(PPOClip, 1), (PPOClip, 1.5), (PPOPenalty, 1.0)])
def test_clip_range_that_clips_nothing_from_below_is_warned_of(cls: Any, clip_range: float) -> None:
    with pytest.warns(UserWarning, match=rf"`clip_range` is half the width .*, got {clip_range}: from 1 on no ratio"):
        cls("MlpPolicy", "CartPole-v1", clip_range=clip_range, **TINY)


@pytest.mark.parametrize("cls", [PPOClip, PPOPenalty, PPOAdaptiveClip])
def test_usual_clip_ranges_are_not_warned_of(cls: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for clip_range in (0.2, lambda progress: 1.5, *([None] if cls is PPOPenalty else [])):
            cls("MlpPolicy", "CartPole-v1", clip_range=clip_range, **TINY)


@pytest.mark.parametrize(
    ("value", "error", "got"), [(lambda p: None, TypeError, "None"), (lambda p: "a", ValueError, "'a'")]
)
@pytest.mark.parametrize("wrap", [FloatSchedule, lambda schedule: schedule])
def test_schedule_that_returns_no_number_is_named(value: Any, error: Any, got: str, wrap: Any) -> None:
    message = f"`ent_coef` must be a number, or a schedule that returns one, got {got} at progress_remaining = 0.500"
    with pytest.raises(error, match=f"{message}; return a float from it"):
        schedule_value("ent_coef", wrap(value), 0.5)


def test_schedule_is_evaluated_and_its_own_errors_pass() -> None:
    def broken(progress: float) -> float:
        raise TypeError("mine")

    assert schedule_value("ent_coef", FloatSchedule(lambda p: 2 * p), 0.25) == 0.5
    assert schedule_value("ent_coef", np.float32(0.5), 0.25) == 0.5
    with pytest.raises(TypeError, match="mine"):
        schedule_value("ent_coef", FloatSchedule(broken), 0.5)


# ----------------------------------------------------------------------------------------------------- load and learn


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.zip"
    PPOPenalty("MlpPolicy", "CartPole-v1", **TINY).save(path)
    return path


def test_unknown_keyword_of_load_is_refused_with_the_closest_one(saved: Path) -> None:
    with pytest.raises(
        TypeError, match=r"PPOPenalty\.load\(\) got an unknown argument `target_kll`; did you mean `targ"
    ):
        PPOPenalty.load(saved, target_kll=1)
    model = PPOPenalty.load(saved, target_kl=0.5, seed=3, _last_obs=None)
    assert model.target_kl == 0.5


def test_learning_without_environment_is_refused_with_two_ways_out(saved: Path) -> None:
    model = PPOPenalty.load(saved)
    with pytest.raises(
        AssertionError, match=r"pass it to PPOPenalty\.load\(path, env=env\), or call set_env\(env\)"
    ) as e:
        checks.check_can_learn(model)
    assert isinstance(e.value, ValueError)
    checks.check_can_learn(PPOPenalty.load(saved, env=gym.make("CartPole-v1")))


# --------------------------------------------------------------------------------------------------------------- masks


class Masked(gym.Env[Any, Any]):
    """An environment with any mask; its episodes do not end."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))

    def __init__(self, mask: Any, action_space: spaces.Space[Any]):
        self.mask, self.action_space = mask, action_space

    def reset(self, **kwargs: Any) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 1.0, False, False, {}

    def action_masks(self) -> Any:
        return self.mask


def collect(masks: list[Any], space: spaces.Space[Any] | None = None) -> Any:
    """Collect one rollout with the checks around it; return the model."""
    actions = space or spaces.Discrete(4)
    env = DummyVecEnv([lambda mask=mask: Masked(mask, actions) for mask in masks])  # type: ignore[misc]
    model = MaskablePPOPenalty("MlpPolicy", env, **TINY)
    with explained_masks(env, actions, model.rollout_buffer):
        model.learn(1)
    model.collect_rollouts(env, *collecting(model))
    warn_of_empty_masks(model.rollout_buffer, actions)
    return model


@pytest.mark.parametrize(("mask", "empty"), [([0, 0, 1, 1, 1], 0), ([1, 0, 0, 0, 0], 1), ([1, 0, 1, 0, 0], None)])
def test_an_empty_mask_is_of_the_part_that_has_no_choice(mask: list[int], empty: int | None) -> None:
    buffer = SimpleNamespace(action_masks=np.array([[mask]], dtype=np.float32))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_empty_masks(buffer, spaces.MultiDiscrete([2, 3]))
    parts = [re.findall(r"part (\d) of the action", str(one.message)) for one in caught]
    assert parts == ([] if empty is None else [[str(empty)]])


def collecting(model: Any) -> tuple[Any, ...]:
    callback = model._init_callback(None)
    callback.on_training_start(locals(), globals())
    return callback, model.rollout_buffer, model.n_steps


@pytest.mark.parametrize(
    ("mask", "space", "got"),
    [
        (np.ones(3, bool), spaces.Discrete(4), r"shape \(4,\) for Discrete\(4\), got shape \(3,\)"),
        (None, spaces.Discrete(4), r"shape \(4,\) for Discrete\(4\), got None"),
        (np.ones(3, bool), spaces.MultiDiscrete([2, 3]), r"shape \(5,\) for .* \(the parts .*\), got shape \(3,\)"),
        (np.ones(2, bool), spaces.MultiBinary(2), r"shape \(4,\) for MultiBinary\(2\) .*, got shape \(2,\)"),
    ],
)
def test_mask_of_a_wrong_shape_is_named(mask: Any, space: spaces.Space[Any], got: str) -> None:
    with pytest.raises(
        (RuntimeError, TypeError, ValueError), match=f"`action_masks` must hold one truth value per action, {got}"
    ):
        collect([mask, mask], space)


def test_masks_of_several_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="got masks of several shapes"):
        collect([np.ones(3, bool), np.ones(4, bool)])


class RolloutBufferOfMasks:
    action_masks = np.ones(4)


def test_error_with_other_causes_passes_by() -> None:
    env = DummyVecEnv([lambda: Masked(np.ones(4, bool), spaces.Discrete(4))])
    masked, plain = RolloutBufferOfMasks(), object()
    with pytest.raises(RuntimeError, match="mine"), explained_masks(env, spaces.Discrete(4), masked):
        raise RuntimeError("mine")
    with pytest.raises(TypeError, match="mine"), explained_masks(env, spaces.Box(-1, 1, (2,)), masked):
        raise TypeError("mine")
    wrong = DummyVecEnv([lambda: Masked(np.ones(3, bool), spaces.Discrete(4))])
    for buffer, asks in ((plain, True), (masked, False)):  # neither asks for masks
        with pytest.raises(ValueError, match="mine"), explained_masks(wrong, spaces.Discrete(4), buffer, asks):
            raise ValueError("mine")
    with pytest.raises(json.JSONDecodeError), explained_masks(wrong, spaces.Discrete(4), masked):
        json.loads("{")


@pytest.mark.parametrize(
    ("mask", "space", "where"),
    [
        (np.zeros(4, bool), spaces.Discrete(4), "at step 0 of the rollout; "),
        (np.array([0, 1, 0, 0, 0]), spaces.MultiDiscrete([2, 3]), "at step 0 of the rollout, part 1 of the action; "),
        (np.array([0, 0, 1, 1]), spaces.MultiBinary(2), "at step 0 of the rollout, part 0 of the action; "),
    ],
)
def test_mask_that_allows_nothing_is_warned_of(mask: Any, space: spaces.Space[Any], where: str) -> None:
    good = np.ones(len(mask), bool)
    with pytest.warns(UserWarning, match=rf"action_masks\(\) of environment 1 allowed no action {where}"):
        collect([good, mask], space)


def test_good_masks_and_rollouts_without_any_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collect([np.array([1, 0, 0, 1], bool)] * 2)
        warn_of_empty_masks(PPOClip("MlpPolicy", "CartPole-v1", **TINY).rollout_buffer, spaces.Discrete(2))


# ---------------------------------------------------------------------------------------------------------- last_update


def test_last_update_is_shown_in_one_line_and_keeps_its_values() -> None:
    model = PPOPenalty("MlpPolicy", "CartPole-v1", max_kl=None, seed=1, **TINY).learn(8)
    trace = model.last_update
    assert trace is not None
    assert repr(trace) == f"<UpdateTrace: KL {trace.kl_divergence:.4g}, 2 epochs, 4 minibatches>"
    assert repr(pickle.loads(pickle.dumps(copy.copy(trace)))) == repr(trace)

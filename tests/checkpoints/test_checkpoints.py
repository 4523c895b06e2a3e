"""A resumed run equals an uninterrupted one; what cannot be restored is said, and nothing is lost silently."""

import io
import json
import random
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from environments import TinyEnv, make_vec_env
from hosts import VARIANTS, all_classes, build
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback, EveryNTimesteps
from stable_baselines3.common.logger import KVWriter, Logger, configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_ppo_variants import PPOAdaptiveClip, PPOPenalty, RecurrentPPOPenalty
from sb3_ppo_variants.callbacks import ClipRangeFromClipFraction, TrustRegionRecorder
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, read_checkpoint, resume
from sb3_ppo_variants.checkpoints.checkpoint_files import list_checkpoints, newest_checkpoint, write_checkpoint
from sb3_ppo_variants.checkpoints.run_state import _callback_state

ROOT = Path(__file__).resolve().parents[2]
ROLLOUT, TOTAL = 50, 250  # two environments of 25 steps; 5 updates
BREAK = 3 * ROLLOUT + 18  # in the middle of the fourth rollout
# Changes at every update, so that a wrong progress or a lost step of beta would show.
SETTINGS: dict[str, Any] = {"learning_rate": lambda progress: 3e-3 * progress}
STILL = {"time/fps", "time/time_elapsed", "time/iterations"}  # clocks and counts of the process, not of the run

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped"),
]


class Kill(BaseCallback):
    """Ends the run at a step as an exception from anywhere would."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        if self.model.num_timesteps >= self.at:
            raise KeyboardInterrupt
        return True


class LogBook(BaseCallback, KVWriter):
    """Keeps everything that is dumped, by time step."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[int, dict[str, Any]] = {}

    def _on_training_start(self) -> None:
        self.model.set_logger(Logger(None, [self]))

    def _on_step(self) -> bool:
        return True

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self._lines[step] = {key: value for key, value in key_values.items() if key not in STILL}

    def lines(self, after: int) -> dict[int, dict[str, Any]]:
        return {step: line for step, line in self._lines.items() if step > after}


def normalized(action: str = "discrete") -> VecEnv:
    return VecNormalize(make_vec_env(action))


def interrupted(model: Any, path: Path, *others: BaseCallback, at: int = BREAK, save_freq: int = 1) -> None:
    """Train with checkpoints until the run is broken off."""
    with pytest.raises(KeyboardInterrupt):
        model.learn(TOTAL, [*others, Kill(at), ResumableCheckpointCallback(save_freq, path)], log_interval=1)


def state_of(model: Any) -> dict[str, Any]:
    """Gather all that decides how a run goes on, in numpy and plain data."""
    optimizer = model.policy.optimizer.state_dict()["state"]
    normalization = model.get_vec_normalize_env()
    return {
        "policy": {name: value.numpy() for name, value in model.policy.state_dict().items()},
        "optimizer": [{name: value.numpy() for name, value in state.items()} for state in optimizer.values()],
        "live": {name: getattr(model, name) for name in getattr(model, "live_state", ())},
        "counts": (model.num_timesteps, model._n_updates, model._total_timesteps, len(model.ep_info_buffer)),
        "last_obs": model._last_obs,
        "generators": (np.random.get_state()[1], th.get_rng_state().numpy()),
        "normalization": normalization and (normalization.obs_rms.mean, normalization.ret_rms.var),
    }


def assert_resumes_alike(
    make: Callable[[], Any], env: Callable[[], VecEnv], path: Path, *, save_freq: int = 1, at: int = BREAK
) -> Any:
    """Compare a run that is broken off and resumed with one that is not."""
    book, resumed_book = LogBook(), LogBook()
    whole = make().learn(TOTAL, book, log_interval=1)
    expected = state_of(whole)
    interrupted(make(), path, save_freq=save_freq, at=at)
    saved = newest_checkpoint(path).timesteps
    np.random.seed(99)
    th.manual_seed(99)
    resumed = resume(path, env(), resumed_book, device="cpu")
    np.testing.assert_equal(state_of(resumed), expected)
    np.testing.assert_equal(resumed_book.lines(saved), book.lines(saved))
    assert len(book.lines(saved)) == (TOTAL - saved) // ROLLOUT
    return resumed


@pytest.mark.parametrize("acceleration", ["off", "eager"])
@all_classes
def test_a_resumed_run_equals_an_uninterrupted_one(cls: type[Any], acceleration: str, tmp_path: Path) -> None:
    def make() -> Any:
        return build(cls, env=normalized(), acceleration=acceleration, n_epochs=1, **SETTINGS)

    resumed = assert_resumes_alike(make, normalized, tmp_path)
    assert type(resumed) is cls
    assert resumed.acceleration == acceleration


@pytest.mark.parametrize("name", ["MaskablePPO", "MaskablePPOPenalty"])
def test_a_run_without_masks_goes_on_without_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(VARIANTS.get(name, MaskablePPO))
    with pytest.raises(KeyboardInterrupt):
        model.learn(TOTAL, [Kill(BREAK), ResumableCheckpointCallback(1, tmp_path)], use_masking=False)
    seen: list[bool] = []
    collect = MaskablePPO.collect_rollouts

    def collecting(self: Any, *args: Any) -> bool:
        seen.append(args[4])
        return collect(self, *args)

    monkeypatch.setattr(MaskablePPO, "collect_rollouts", collecting)
    resume(tmp_path, make_vec_env(), device="cpu")
    assert seen == [False, False]


@pytest.mark.parametrize("cls", [PPO, A2C])
def test_stock_algorithms_resume_too(cls: type[Any], tmp_path: Path) -> None:
    def make() -> Any:
        return cls("MlpPolicy", normalized(), n_steps=25, seed=5, device="cpu", policy_kwargs={"net_arch": [8]})

    assert_resumes_alike(make, normalized, tmp_path)


@pytest.mark.parametrize("sample_freq", [-1, 4])
@pytest.mark.parametrize("cls", [PPOPenalty, RecurrentPPOPenalty])
def test_gsde_noise_resumes_too(cls: type[Any], sample_freq: int, tmp_path: Path) -> None:
    def env() -> VecEnv:
        return make_vec_env("box")

    def make() -> Any:
        return build(cls, env=env(), n_epochs=1, use_sde=True, sde_sample_freq=sample_freq, **SETTINGS)

    assert_resumes_alike(make, env, tmp_path)


def test_a_single_environment_is_wrapped_as_in_the_first_run(tmp_path: Path) -> None:
    def make() -> Any:
        return PPOPenalty("MlpPolicy", gym.make("CartPole-v1"), n_steps=50, batch_size=25, seed=1, device="cpu")

    assert_resumes_alike(make, lambda: gym.make("CartPole-v1"), tmp_path)


@pytest.mark.parametrize(("save_freq", "saved"), [(1, 150), (50, 150), (60, 150), (100, 100), (101, 150), (140, 150)])
def test_checkpoints_come_at_the_first_update_after_each_multiple_of_save_freq(
    save_freq: int, saved: int, tmp_path: Path
) -> None:
    """Updates are at 50, 100 and 150 before the break; 60 is passed at 100, 120 at 150."""
    interrupted(build(PPOPenalty), tmp_path, save_freq=save_freq)
    assert newest_checkpoint(tmp_path).timesteps == saved


def test_a_rare_checkpoint_loses_the_steps_since_and_nothing_else(tmp_path: Path) -> None:
    assert_resumes_alike(lambda: build(PPOPenalty, **SETTINGS), make_vec_env, tmp_path, save_freq=100)


def test_a_checkpoint_contains_the_effect_of_the_update(tmp_path: Path) -> None:
    model = build(PPOAdaptiveClip, target_kl=1e-9, adaptation_factor=2.0, adapt_after="update", max_kl=None)
    interrupted(model, tmp_path)
    checkpoint = read_checkpoint(newest_checkpoint(tmp_path))
    loaded: Any = checkpoint.load_model(make_vec_env(), "cpu")
    assert (checkpoint.timesteps, checkpoint.total_timesteps) == (150, TOTAL)
    assert loaded.clip_scale == 1 / 8  # three updates
    assert loaded.last_update.kl_divergence == model.last_update.kl_divergence


def test_the_newest_keep_checkpoints_stay_and_the_end_is_one_of_them(tmp_path: Path) -> None:
    build(PPOPenalty).learn(TOTAL, ResumableCheckpointCallback(1, tmp_path, keep=2))
    assert [file.timesteps for file in list_checkpoints(tmp_path)] == [250, 200]


def test_a_finished_run_is_returned_as_it_is_and_can_be_made_longer(tmp_path: Path) -> None:
    model = build(PPOPenalty)
    model.learn(2 * ROLLOUT, ResumableCheckpointCallback(1, tmp_path))
    same = resume(tmp_path, make_vec_env(), device="cpu")
    np.testing.assert_equal(state_of(same)["policy"], state_of(model)["policy"])
    longer = resume(tmp_path, make_vec_env(), total_timesteps=3 * ROLLOUT, device="cpu")
    assert longer.num_timesteps == 3 * ROLLOUT
    assert newest_checkpoint(tmp_path).timesteps == 3 * ROLLOUT

    constant = build(PPOPenalty).learn(3 * ROLLOUT)  # nothing in it depends on the progress
    np.testing.assert_equal(state_of(longer)["policy"], state_of(constant)["policy"])


def test_a_finished_run_with_gsde_can_be_made_longer(tmp_path: Path) -> None:
    def make() -> Any:
        return build(PPOPenalty, env=make_vec_env("box"), use_sde=True)

    make().learn(2 * ROLLOUT, ResumableCheckpointCallback(1, tmp_path))
    longer = resume(tmp_path, make_vec_env("box"), total_timesteps=3 * ROLLOUT, device="cpu")
    np.testing.assert_equal(state_of(longer)["policy"], state_of(make().learn(3 * ROLLOUT))["policy"])


class StopAt(BaseCallback):
    """Ends training at a step, as callbacks do."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        return self.num_timesteps < self.at


def test_a_run_stopped_by_a_callback_is_not_saved_in_the_middle_of_a_rollout(tmp_path: Path) -> None:
    build(PPOPenalty).learn(TOTAL, [StopAt(BREAK), ResumableCheckpointCallback(1, tmp_path)])
    assert newest_checkpoint(tmp_path).timesteps == 3 * ROLLOUT


@pytest.mark.parametrize("cls", [PPOPenalty, RecurrentPPOPenalty, PPO, A2C])
def test_a_run_that_a_callback_stops_keeps_the_updates_since_the_last_checkpoint(
    cls: type[Any], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"n_steps": 25, "seed": 1, "device": "cpu"}
    policy = "MlpLstmPolicy" if cls is RecurrentPPOPenalty else "MlpPolicy"
    model = cls(policy, normalized(), **settings)
    model.learn(TOTAL, [StopAt(BREAK), ResumableCheckpointCallback(10**6, tmp_path)])
    (only,) = list_checkpoints(tmp_path)
    assert only.timesteps == model.num_timesteps == BREAK
    with pytest.warns(UserWarning, match="start new episodes, .*: a callback ended training within a rollout"):
        resumed = resume(tmp_path, normalized(), device="cpu", total_timesteps=BREAK)
    before, after = state_of(model), state_of(resumed)
    for what in ("policy", "optimizer", "live", "normalization"):
        np.testing.assert_equal(after[what], before[what])
    with pytest.warns(UserWarning, match="start new episodes"):
        longer = resume(tmp_path, normalized(), device="cpu", total_timesteps=TOTAL)
    assert longer.num_timesteps == BREAK + 2 * ROLLOUT


@pytest.mark.parametrize("at", [20, ROLLOUT, 3 * ROLLOUT])
def test_what_breaks_off_a_rollout_writes_no_checkpoint_of_it(at: int, tmp_path: Path) -> None:
    """rl-zoo3 ends training after an exception, too; within the first rollout nothing has been learned."""
    writer = ResumableCheckpointCallback(10**6, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build(PPOPenalty).learn(TOTAL, [Kill(at + 8), writer])
    writer.on_training_end()
    build(PPOPenalty).learn(TOTAL, [StopAt(20), ResumableCheckpointCallback(10**6, tmp_path)])
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("cls", [PPOPenalty, PPO])
def test_a_callback_that_dumps_the_logger_at_the_end_hides_no_update(cls: type[Any], tmp_path: Path) -> None:
    class Dump(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_training_end(self) -> None:
            self.logger.dump(self.num_timesteps)

    model = cls("MlpPolicy", make_vec_env(), n_steps=25, device="cpu")
    model.learn(TOTAL, [Dump(), ResumableCheckpointCallback(10**6, tmp_path)])
    assert newest_checkpoint(tmp_path).timesteps == TOTAL


@pytest.mark.parametrize("cls", [PPOPenalty, PPO, A2C])
def test_an_update_that_is_broken_off_is_not_saved(
    cls: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rl-zoo3 calls ``on_training_end`` after ctrl-c, in the middle of an update, too."""
    steps: dict[str, Any] = {"n_steps": 25, "seed": 1, "device": "cpu", "policy_kwargs": {"net_arch": [8]}}
    steps |= {"acceleration": "off"} if cls is PPOPenalty else {}  # the optimiser's own step is not used otherwise
    model, writer = cls("MlpPolicy", make_vec_env(), **steps), ResumableCheckpointCallback(1, tmp_path)
    step, calls = model.policy.optimizer.step, iter(range(10**6))

    def step_until_interrupted() -> None:
        if model.num_timesteps == 3 * ROLLOUT and next(calls) == (0 if cls is A2C else 3):
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(model.policy.optimizer, "step", step_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.learn(3 * ROLLOUT, writer)
    writer.on_training_end()
    assert newest_checkpoint(tmp_path).timesteps == 2 * ROLLOUT


def test_many_interruptions_change_nothing(tmp_path: Path) -> None:
    whole = state_of(build(PPOPenalty, env=normalized(), **SETTINGS).learn(TOTAL))
    interrupted(build(PPOPenalty, env=normalized(), **SETTINGS), tmp_path, at=77)
    for at in (77, 130, 150, 151, 249):
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path, normalized(), Kill(at), device="cpu")
    np.testing.assert_equal(state_of(resume(tmp_path, normalized(), device="cpu")), whole)


def test_damage_to_the_newest_checkpoint_costs_one_checkpoint(tmp_path: Path) -> None:
    interrupted(build(PPOPenalty, **SETTINGS), tmp_path)
    newest = newest_checkpoint(tmp_path)
    newest.path.write_bytes(newest.path.read_bytes()[:-1])
    (tmp_path / ".unfinished_1").write_bytes(b"half a checkpoint")
    whole = state_of(build(PPOPenalty, **SETTINGS).learn(TOTAL))
    np.testing.assert_equal(state_of(resume(tmp_path, make_vec_env(), device="cpu")), whole)
    others = {path.name for path in tmp_path.iterdir() if not path.match("checkpoint_*.zip")}
    assert others == {newest.path.with_suffix(".damaged").name, ".lock"}


def test_a_new_run_among_another_s_checkpoints_is_refused(tmp_path: Path) -> None:
    interrupted(build(PPOPenalty), tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"a run of 0 steps must not write among checkpoints of 150 steps.*resume\(\)"):
        build(PPOPenalty).learn(TOTAL, ResumableCheckpointCallback(1, tmp_path))
    assert sorted(tmp_path.iterdir()) == before


def test_learning_on_with_the_same_callback_is_one_run(tmp_path: Path) -> None:
    model, callback = build(PPOPenalty), ResumableCheckpointCallback(1, tmp_path)
    model.learn(ROLLOUT, callback)
    model.learn(ROLLOUT, callback, reset_num_timesteps=False)
    assert [file.timesteps for file in list_checkpoints(tmp_path)] == [100, 50]


def test_callbacks_go_on_where_they_were(tmp_path: Path) -> None:
    class Recorder(BaseCallback):
        """Reads what the last update logged; has a state of its own making."""

        def __init__(self) -> None:
            super().__init__()
            self._rows: list[float] = []

        def _on_rollout_start(self) -> None:
            value = self.model.logger.name_to_value.get("train/loss")
            if value is not None:
                self._rows.append(value)

        def _on_step(self) -> bool:
            return True

        def state_dict(self) -> dict[str, Any]:
            return {"rows": list(self._rows)}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self._rows = state["rows"]

    def callbacks(folder: Path, *last: BaseCallback) -> tuple[CallbackList, EvalCallback, Recorder]:
        recorder, evaluation = Recorder(), EvalCallback(make_vec_env(), eval_freq=2, log_path=str(folder), verbose=0)
        evaluation.eval_env.seed(4)
        others = [EveryNTimesteps(40, evaluation), recorder]
        writer = ResumableCheckpointCallback(1, folder)
        return CallbackList([*last, *others, writer]), evaluation, recorder

    whole, evaluation, recorder = callbacks(tmp_path / "whole")
    build(PPOPenalty).learn(TOTAL, whole)
    broken, _, _ = callbacks(tmp_path / "broken", Kill(BREAK))
    with pytest.raises(KeyboardInterrupt):
        build(PPOPenalty).learn(TOTAL, broken)
    again, evaluation_again, recorder_again = callbacks(tmp_path / "broken")
    resume(tmp_path / "broken", make_vec_env(), again, device="cpu")

    assert len(recorder._rows) == 4  # the fifth update comes after the last rollout
    assert recorder_again._rows == recorder._rows
    for name in ("n_calls", "best_mean_reward", "last_mean_reward", "evaluations_timesteps", "evaluations_results"):
        assert getattr(evaluation_again, name) == getattr(evaluation, name), name


@pytest.mark.parametrize("half", ["state_dict", "load_state_dict"])
def test_a_callback_with_one_half_of_a_state_goes_on_by_its_attributes(half: str, tmp_path: Path) -> None:
    class Counter(BaseCallback):
        steps = 0

        def _on_step(self) -> bool:
            self.steps += 1
            return True

    setattr(Counter, half, lambda self, *_: pytest.fail(f"{half}() was called without the other"))
    callbacks = [Counter(), Counter(), Kill(BREAK)]
    build(PPOPenalty).learn(TOTAL, [callbacks[0], ResumableCheckpointCallback(1, tmp_path / "whole")])
    with pytest.raises(KeyboardInterrupt):
        build(PPOPenalty).learn(TOTAL, [callbacks[2], Counter(), ResumableCheckpointCallback(1, tmp_path / "broken")])
    resume(tmp_path / "broken", make_vec_env(), [callbacks[1]], device="cpu")
    assert callbacks[1].steps == callbacks[0].steps


def test_the_record_of_a_run_is_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """And so is what a callback that steers the clip range has come to."""

    def callbacks(name: str, *last: BaseCallback) -> list[BaseCallback]:
        writer = ResumableCheckpointCallback(100, tmp_path / name)
        record = TrustRegionRecorder(tmp_path / f"{name}.csv", minibatches=True)
        return [*last, record, ClipRangeFromClipFraction(0.1), writer]

    whole = build(PPO).learn(TOTAL, callbacks("whole"))
    with pytest.raises(KeyboardInterrupt):
        build(PPO).learn(TOTAL, callbacks("broken", Kill(BREAK)))
    resumed: Any = resume(tmp_path / "broken", make_vec_env(), callbacks("broken"), device="cpu")
    assert (tmp_path / "broken.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert resumed.clip_scale == whole.clip_scale != 1
    np.testing.assert_equal(state_of(resumed)["policy"], state_of(whole)["policy"])


def test_a_callback_s_constructor_arguments_are_the_new_ones(tmp_path: Path) -> None:
    def evaluation(best: float, eval_freq: int) -> EvalCallback:
        callback = EvalCallback(make_vec_env(), eval_freq=eval_freq, verbose=0)
        callback.best_mean_reward = best
        return callback

    interrupted(build(PPOPenalty), tmp_path, evaluation(best=1e9, eval_freq=7))
    resumed = evaluation(best=-np.inf, eval_freq=11)
    resume(tmp_path, make_vec_env(), resumed, device="cpu")
    assert (resumed.eval_freq, resumed.best_mean_reward) == (11, 1e9)


class Outside(TinyEnv):
    """Keeps something that no pickle holds."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = (number for number in range(3))


def test_environments_that_cannot_be_restored_start_new_episodes_and_say_so(tmp_path: Path) -> None:
    def env() -> VecNormalize:
        return VecNormalize(DummyVecEnv([Outside] * 2))

    model = build(PPOPenalty, env=env())
    interrupted(model, tmp_path)
    checkpoint = read_checkpoint(newest_checkpoint(tmp_path))
    with pytest.warns(UserWarning, match="start new episodes, their state is not restored: .*generator"):
        loaded = checkpoint.load_model(env(), "cpu")
    assert loaded._last_obs is None
    assert loaded.num_timesteps == 150
    normalization = loaded.get_vec_normalize_env()
    assert normalization is not None
    assert normalization.obs_rms.count == pytest.approx(152, abs=1e-3)  # 75 steps and a reset of two environments
    assert loaded.env is not None
    assert loaded.env.unwrapped._seeds == [155, 156]  # not 5 and 6, with which the run began
    with pytest.warns(UserWarning, match="start new episodes"):
        resumed = resume(tmp_path, env(), device="cpu")
    assert resumed.num_timesteps == TOTAL


def test_evaluation_environments_that_cannot_be_restored_get_new_seeds_and_say_so(tmp_path: Path) -> None:
    def evaluation() -> EvalCallback:
        return EvalCallback(DummyVecEnv([Outside]), eval_freq=10, n_eval_episodes=1, verbose=0)

    interrupted(build(PPOPenalty), tmp_path, evaluation())
    again = evaluation()
    with pytest.warns(UserWarning, match="of an EvalCallback begin with new seeds, .*generator"):
        resume(tmp_path, make_vec_env(), again, device="cpu", total_timesteps=4 * ROLLOUT)
    assert isinstance(again.eval_env, DummyVecEnv)
    seed = again.eval_env.envs[0].unwrapped.np_random_seed  # type: ignore[attr-defined]
    assert seed > 10**8 and seed % 10**8 == 155  # 5 and 150 steps, far from the seeds of the training environments


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"total_timesteps": float("nan")}, "`total_timesteps` must be an integer >= 1, got nan"),
        ({"total_timesteps": -5}, "`total_timesteps` must be an integer >= 1, got -5"),
        ({"reset_num_timesteps": False}, "`reset_num_timesteps` must be left out"),
    ],
)
def test_resume_refuses_what_would_end_or_begin_a_run_unnoticed(
    bad: dict[str, Any], message: str, tmp_path: Path
) -> None:
    interrupted(build(PPOPenalty), tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        resume(tmp_path, make_vec_env(), device="cpu", **bad)


def test_an_environment_may_be_given_by_name(tmp_path: Path) -> None:
    PPOPenalty("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu").learn(64, ResumableCheckpointCallback(1, tmp_path))
    assert resume(tmp_path, "CartPole-v1", total_timesteps=128, device="cpu").num_timesteps == 128


def test_restored_environments_give_no_warning(tmp_path: Path) -> None:
    interrupted(build(PPOPenalty), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume(tmp_path, make_vec_env(), device="cpu", total_timesteps=150)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (lambda: make_vec_env(n_envs=3), "the run has 2 environments, got 3; make as many as in the first run"),
        (lambda: make_vec_env("box"), "Action spaces do not match"),
        (lambda: make_vec_env(observation="image"), "Observation spaces do not match"),
        (lambda: VecNormalize(make_vec_env()), "the statistics of 0 VecNormalize, got an environment with 1"),
    ],
)
def test_environments_that_do_not_fit_are_refused(env: Callable[[], VecEnv], message: str, tmp_path: Path) -> None:
    interrupted(build(PPOPenalty), tmp_path)
    with pytest.raises(ValueError, match=message):
        resume(tmp_path, env(), device="cpu")


@pytest.mark.parametrize("bad", [{"save_freq": 0}, {"keep": 0}, {"save_freq": 2.5}, {"keep": "3"}])
def test_wrong_arguments_are_refused(bad: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}` must be an integer >= 1, got "):
        ResumableCheckpointCallback(**{"save_freq": 1, "path": tmp_path, **bad})


def test_an_algorithm_without_rollouts_is_refused(tmp_path: Path) -> None:
    model = SAC("MlpPolicy", gym.make("Pendulum-v1"), buffer_size=10, device="cpu", policy_kwargs={"net_arch": [4]})
    with pytest.raises(ValueError, match="needs an on-policy algorithm.*got 'SAC'; use SB3's CheckpointCallback"):
        model.learn(10, ResumableCheckpointCallback(1, tmp_path))


def test_another_place_than_the_last_is_refused(tmp_path: Path) -> None:
    writer = ResumableCheckpointCallback(1, tmp_path / "run")
    for callbacks in ([writer, Kill(0)], [CallbackList([writer]), EveryNTimesteps(1, Kill(0))]):
        with pytest.raises(ValueError, match=r"no callback must come after .*, got \[.*'Kill'\]; put it at the end"):
            build(PPOPenalty).learn(TOTAL, callbacks)
    with pytest.raises(ValueError, match="must not be the child of another callback, got 'EveryNTimesteps'"):
        build(PPOPenalty).learn(TOTAL, EveryNTimesteps(1, writer))
    child = ResumableCheckpointCallback(1, tmp_path / "run")
    best = EvalCallback(make_vec_env(n_envs=1), callback_on_new_best=child, eval_freq=1, n_eval_episodes=1)
    with pytest.raises(ValueError, match="must not be the child of another callback, got 'EvalCallback'"):
        build(PPOPenalty).learn(TOTAL, best)
    assert not (tmp_path / "run").exists()
    build(PPOPenalty).learn(ROLLOUT, [Kill(TOTAL), writer], progress_bar=True)


def test_resume_takes_callbacks_in_every_form_that_learn_does(tmp_path: Path) -> None:
    class Noted(BaseCallback, dict[str, int]):  # type: ignore[misc]  # both have their own ideas of equality
        def _on_step(self) -> bool:
            self["calls"] = self.get("calls", 0) + 1
            return True

    interrupted(build(PPOPenalty), tmp_path)
    calls = []
    resume(tmp_path, make_vec_env(), lambda local, _: calls.append(local["n_steps"]) or True, device="cpu")
    assert calls
    assert _callback_state(Noted()) == {"n_calls": 0, "num_timesteps": 0}


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no intact checkpoint"):
        resume(tmp_path, make_vec_env())


@pytest.mark.parametrize(
    ("written", "got"),
    [
        (None, "layout 0 of version 0.1.0 or older"),
        ({"layout": 99, "package_version": "9.8.7"}, "layout 99 of version 9.8.7"),
    ],
)
def test_a_checkpoint_of_another_layout_is_refused_unread(
    written: dict[str, Any] | None, got: str, tmp_path: Path
) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("run.pt", b"csb3_ppo_variants.run_state\nRunState\n.")  # a module that was moved
        if written is not None:
            archive.writestr("layout.json", json.dumps(written))
    write_checkpoint(tmp_path, 100, file.getvalue())
    way_out = "finish the run with that version, or begin it anew in an empty folder"
    with pytest.raises(ValueError, match=rf"must be a checkpoint of layout 1, .*, got '{got}'; {way_out}"):
        resume(tmp_path, make_vec_env())


def test_writing_checkpoints_does_not_change_a_run(tmp_path: Path) -> None:
    for name in ("PPOPenalty", "RecurrentPPOClip"):
        cls = VARIANTS[name]
        alone = build(cls).learn(TOTAL)
        np.testing.assert_equal(
            state_of(build(cls).learn(TOTAL, ResumableCheckpointCallback(1, tmp_path / name)))["policy"],
            state_of(alone)["policy"],
        )


@pytest.mark.slow
def test_runs_killed_at_random_moments_resume_and_end_alike() -> None:
    script = [sys.executable, str(ROOT / "benchmarks/kill_resume.py"), "--kills", "5", "--updates", "60", "--json"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == 5
    assert result["resumed"] >= 5 - result["before_the_first_save"]
    assert result["older_than_last_save"] == 0
    assert result["equals_uninterrupted"] is True


class Draws(BaseCallback):
    """Draws from Python's generator at every step, and keeps what ``learn`` was called with."""

    def _on_training_start(self) -> None:
        self.called_with = (self.locals["log_interval"], self.locals["tb_log_name"])

    def _on_step(self) -> bool:
        self.drawn = random.random()
        return True


def test_python_s_generator_and_learn_s_arguments_go_on(tmp_path: Path) -> None:
    whole, again = Draws(), Draws()
    build(PPOPenalty).learn(3 * ROLLOUT, whole)
    writer = ResumableCheckpointCallback(1, tmp_path)
    build(PPOPenalty).learn(2 * ROLLOUT, [Draws(), writer], log_interval=7, tb_log_name="mine")
    resume(tmp_path, make_vec_env(), again, total_timesteps=3 * ROLLOUT, device="cpu")
    assert again.drawn == whole.drawn
    assert again.called_with == (7, "mine")


def test_a_logger_of_the_user_s_goes_on_if_it_is_given_again(tmp_path: Path) -> None:
    model = build(PPOPenalty)
    model.set_logger(configure(str(tmp_path / "first"), ["csv"]))
    model.learn(2 * ROLLOUT, ResumableCheckpointCallback(1, tmp_path / "run"))
    with pytest.warns(UserWarning, match=r"a logger of its own, set by set_logger\(\): pass it as `logger`"):
        resume(tmp_path / "run", make_vec_env(), total_timesteps=3 * ROLLOUT, device="cpu")
    logger = configure(str(tmp_path / "second"), ["csv"])
    resumed = resume(tmp_path / "run", make_vec_env(), total_timesteps=4 * ROLLOUT, device="cpu", logger=logger)
    assert resumed.logger is logger
    assert len((tmp_path / "second" / "progress.csv").read_text().splitlines()) == 2  # header and one update

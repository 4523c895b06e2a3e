"""Which run `train --resume` goes on with: test_zoo.py runs this file in a process of its own."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from torch import nn
from zoo_in_process import refusal, train, working_folder  # noqa: F401  # every test uses it

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback
from sb3_ppo_variants.checkpoints.checkpoint_files import list_checkpoints
from sb3_ppo_variants.zoo.experiment_manager import VariantExperimentManager
from sb3_ppo_variants.zoo.run_identity import FILE, RunIdentity

TINY = ["n_envs:2", "n_steps:16", "batch_size:16", "n_epochs:1"]
Capture = pytest.CaptureFixture[str]
FIRST = Path("logs/ppo_penalty/CartPole-v1_1")


class Unresettable(CartPoleEnv):
    def reset(self, **kwargs: Any) -> Any:
        raise RuntimeError("no simulator here")


def resume(*params: str, seed: int | None = 4, steps: int = 64, more: tuple[str, ...] = ()) -> None:
    """Run the command with tiny settings."""
    given = [] if seed is None else ["--seed", str(seed)]
    train("ppo_penalty", "CartPole-v1", "--resume", *given, *more, "-params", *TINY, *params, steps=steps)


@contextmanager
def locked_by_another_process(*folders: Path) -> Iterator[None]:
    """Let another process hold the locks of some folders of checkpoints, until it is killed at the end."""
    script = "import sys, pathlib; from sb3_ppo_variants.checkpoints import run_lock\n"
    script += "print(*map(run_lock.take, map(pathlib.Path, sys.argv[1:])), flush=True); input()"
    command = [sys.executable, "-c", script, *map(str, folders)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline().split() == ["True"] * len(folders)
            yield
        finally:
            other.kill()


def steps_done() -> dict[str, int]:
    """Return the steps of each run by the name of its folder."""
    runs = Path("logs/ppo_penalty").iterdir()
    return {run.name: list_checkpoints(run / "checkpoints")[0].timesteps for run in runs}


def test_each_seed_of_a_loop_has_a_run_and_a_second_loop_trains_none(capsys: Capture) -> None:
    for seed in (4, 5, 6):
        resume(seed=seed)
    assert steps_done() == {"CartPole-v1_1": 64, "CartPole-v1_2": 64, "CartPole-v1_3": 64}
    assert f"Beginning a new run, as none is of this command: {FIRST} has seed 4, not 5" in capsys.readouterr().out
    for seed, number in ((4, 1), (5, 2), (6, 3)):
        resume(seed=seed, steps=64 + 32 * number)
        assert f"Resuming logs/ppo_penalty/CartPole-v1_{number} at step 64" in capsys.readouterr().out
    assert steps_done() == {"CartPole-v1_1": 96, "CartPole-v1_2": 128, "CartPole-v1_3": 160}


@pytest.mark.parametrize(
    ("params", "more", "said"),
    [
        (["target_kl:0.05"], (), "has target_kl 0.01, not 0.05"),
        (["hinge_coef:0.5"], (), "has hinge_coef not given, not 0.5"),
        ([], ("--env-kwargs", "sutton_barto_reward:True"), "has env_kwargs not given, not {'sutton_barto_reward': T"),
    ],
)
def test_other_settings_are_another_run(params: list[str], more: tuple[str, ...], said: str, capsys: Capture) -> None:
    resume("target_kl:0.01")
    resume("target_kl:0.01", *params, more=more)
    assert said in capsys.readouterr().out
    resume("target_kl:0.01", steps=96)
    assert steps_done() == {"CartPole-v1_1": 96, "CartPole-v1_2": 64}


def test_each_run_keeps_its_tensorboard_folder() -> None:
    for steps in (64, 96):
        for seed in (4, 5):
            resume(seed=seed, more=("-tb", "tb"), steps=steps)
    folders = {file.parent: len(list(file.parent.iterdir())) for file in Path("tb").rglob("events*")}
    run = Path("tb/CartPole-v1")
    assert folders == {run / "CartPole-v1_1/PPOPenalty_1": 2, run / "CartPole-v1_2/PPOPenalty_1": 2}


def test_runs_without_a_seed_go_on_with_each_other() -> None:
    resume(seed=None)
    resume(seed=None, steps=96)
    resume(seed=7)
    assert steps_done() == {"CartPole-v1_1": 96, "CartPole-v1_2": 64}


def test_run_with_a_unique_id_is_found() -> None:
    resume(more=("-uuid",))
    resume(more=("-uuid",), steps=96)
    assert list(steps_done().values()) == [96]


@pytest.mark.parametrize("content", [None, "torn {", "{}", "[]"])
def test_checkpoints_that_do_not_say_whose_they_are_are_left_alone(content: str | None, capsys: Capture) -> None:
    resume()
    file = FIRST / "checkpoints" / FILE
    file.unlink() if content is None else file.write_text(content)
    resume(steps=96)
    assert "has no file that says what it was begun with" in capsys.readouterr().out
    assert steps_done() == {"CartPole-v1_1": 64, "CartPole-v1_2": 96}


def test_a_run_whose_checkpoints_are_damaged_is_kept_and_another_begun(capsys: Capture) -> None:
    resume()
    for file in list_checkpoints(FIRST / "checkpoints"):
        file.path.write_bytes(b"damaged")
    resume(steps=96)
    assert f"{FIRST} is of this command, but all of its checkpoints are damaged" in capsys.readouterr().out
    assert steps_done() == {"CartPole-v1_1": 64, "CartPole-v1_2": 96}
    assert (FIRST / "CartPole-v1.zip").is_file()
    resume(steps=128)
    assert steps_done()["CartPole-v1_2"] == 128


def test_a_run_that_another_process_trains_is_left_alone(capsys: Capture) -> None:
    resume()
    resume(seed=None)
    folders = [FIRST / "checkpoints", FIRST.with_name("CartPole-v1_2") / "checkpoints"]
    with locked_by_another_process(*folders):
        message = refusal(capsys, "ppo_penalty", "CartPole-v1", "--resume", "--seed", "4", "-params", *TINY)
        assert message.startswith(f"{FIRST} is of this command, and another process trains it")
        with pytest.raises(ValueError, match="another process must not write checkpoints there"):
            PPOClip("MlpPolicy", "CartPole-v1").learn(10, callback=ResumableCheckpointCallback(10, folders[0]))
        resume(seed=None)
        resume(seed=None)  # the third is finished
        assert steps_done() == {f"CartPole-v1_{number}": 64 for number in (1, 2, 3, 4)}
        resume(seed=None, steps=96)
        assert steps_done()["CartPole-v1_4"] == 96
    resume(steps=96)
    assert steps_done()["CartPole-v1_1"] == 96


def test_a_run_that_has_just_begun_elsewhere_is_not_begun_again(capsys: Capture) -> None:
    resume()
    for file in list_checkpoints(FIRST / "checkpoints"):
        file.path.unlink()
    with locked_by_another_process(FIRST / "checkpoints"):
        message = refusal(capsys, "ppo_penalty", "CartPole-v1", "--resume", "--seed", "4", "-params", *TINY)
        assert message.startswith(f"{FIRST} is of this command, and another process trains it")
    resume()
    assert not list_checkpoints(FIRST / "checkpoints")
    assert list_checkpoints(FIRST.with_name("CartPole-v1_2") / "checkpoints")[0].timesteps == 64


def test_a_copy_of_a_run_is_not_gone_on_with() -> None:
    resume()
    shutil.copytree(FIRST, "logs/ppo_penalty/CartPole-v1_1_backup")
    resume(steps=96)
    assert steps_done() == {"CartPole-v1_1": 96, "CartPole-v1_1_backup": 64}


def test_the_seed_that_was_drawn_stays_on_record() -> None:
    resume(seed=None)
    written = (FIRST / "CartPole-v1/args.yml").read_text()
    resume(seed=None, steps=96)
    assert (FIRST / "CartPole-v1/args.yml").read_text() == written


class Succeeds(CartPoleEnv):
    def step(self, action: Any) -> Any:
        *rest, info = super().step(action)
        return *rest, {**info, "is_success": True}


def test_monitors_to_which_the_zoo_gives_keywords_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gym.register("Succeeds-v0", entry_point=Succeeds, max_episode_steps=10)
    monkeypatch.setattr(VariantExperimentManager, "is_robotics_env", lambda *_: True)
    lines = []
    for steps in (64, 128):
        train("ppo_penalty", "Succeeds-v0", "--resume", "--seed", "1", "-params", *TINY, steps=steps)
        lines.append(Path("logs/ppo_penalty/Succeeds-v0_1/0.monitor.csv").read_text().splitlines())
    assert lines[1][: len(lines[0])] == lines[0]
    assert len(lines[1]) > len(lines[0]) > 2
    assert lines[1][1] == "r,l,t,is_success"


def test_algorithms_without_rollouts_are_refused(capsys: Capture) -> None:
    assert refusal(capsys, "dqn", "CartPole-v1", "--resume").startswith("--resume is for on-policy algorithms")


def test_a_folder_that_another_process_has_made_meanwhile_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    read = VariantExperimentManager.read_hyperparameters

    def reads_slowly(self: Any) -> Any:
        Path(self.save_path).mkdir(parents=True)
        Path(self.save_path, "evaluations.npz").touch()
        return read(self)

    monkeypatch.setattr(VariantExperimentManager, "read_hyperparameters", reads_slowly)
    gym.register("Unresettable-v1", entry_point=Unresettable)
    with pytest.raises(RuntimeError, match="no simulator here"):
        train("ppo_penalty", "Unresettable-v1", "-params", "n_envs:1")
    assert [path.name for path in Path("logs/ppo_penalty").rglob("*")] == ["Unresettable-v1_1", "evaluations.npz"]
    monkeypatch.undo()
    train("ppo_penalty", "CartPole-v1", "-params", *TINY, steps=32)
    assert (FIRST / "CartPole-v1.zip").is_file()


def test_a_wrapper_that_is_a_class_with_arguments_resumes() -> None:
    Path("own.py").write_text(
        "import gymnasium as gym\n"
        "wrapper = [{gym.wrappers.TransformReward: dict(func=abs)}]\n"
        "entry = dict(n_timesteps=64, policy='MlpPolicy', env_wrapper=wrapper)\n"
        "hyperparams = {'CartPole-v1': entry}\n"
    )
    for _ in range(2):
        resume(more=("--conf-file", "own.py"))
    assert len(steps_done()) == 1
    given = {"wrapper": [{gym.Wrapper: {max: 1}}], "counts": {1: {None: 2}}}
    assert RunIdentity.of("ppo", "CartPole-v1", 1, given).settings == {
        "wrapper": [{"gymnasium.core.Wrapper": {"builtins.max": 1}}],
        "counts": {"1": {"null": 2}},  # as JSON has them
    }


def test_an_object_without_a_text_of_its_own_is_the_same_in_every_process() -> None:
    first, second = (RunIdentity.of("ppo", "CartPole-v1", 1, {"given": functools.partial(hash)}) for _ in range(2))
    made = [RunIdentity.of("ppo", "CartPole-v1", 1, {"given": object()}) for _ in range(2)]
    assert first == second and made[0] == made[1] != first


def test_what_fails_before_training_is_said_as_it_is(capsys: Capture) -> None:
    gym.register("Unresettable-v0", entry_point=Unresettable)
    with pytest.raises(RuntimeError, match="no simulator here"):
        train("ppo_penalty", "Unresettable-v0", "--resume", "--seed", "1", "-params", "n_envs:1")


@pytest.mark.parametrize(
    "value", [dict(net_arch=[8], activation_fn=nn.Tanh), {"schedule": max}, (1, 2.5, None), float("inf"), b"bytes"]
)
def test_identity_of_values_of_any_kind_survives_the_file(value: Any, tmp_path: Path) -> None:
    identity = RunIdentity.of("ppo", "CartPole-v1", -1, {"n_timesteps": 1e5, "given": value})
    identity.write(tmp_path / "new")
    assert RunIdentity.read(tmp_path / "new") == identity
    assert identity.seed is None and set(identity.settings) == {"given"}
    assert identity.differences(identity) == []

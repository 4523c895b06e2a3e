"""How `train` ends when the process is told to stop: test_zoo.py runs this file in a process of its own."""

import faulthandler
import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from zoo_in_process import train, working_folder  # noqa: F401  # every test uses it

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.checkpoints.checkpoint_files import list_checkpoints
from sb3_ppo_variants.zoo.termination import TERMINATION

RUN = Path("logs/ppo_penalty/Terminated-v0_1")
TINY = ["--seed", "1", "-params", "n_envs:1", "n_steps:16", "batch_size:16", "n_epochs:1"]


class TerminatedEnv(CartPoleEnv):
    """It sends SIGTERM to its own process: at a step, when it is made, or when it is closed."""

    at: ClassVar[int | str | None] = None
    sleeps: ClassVar[float] = 0.0

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.steps = 0
        self._terminate("made")

    def step(self, action: Any) -> Any:
        self.steps += 1
        self._terminate(self.steps)
        return super().step(action)

    def close(self) -> None:
        self._terminate("closed")
        super().close()

    def _terminate(self, moment: int | str) -> None:
        if moment == TerminatedEnv.at:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(TerminatedEnv.sleeps)


class TerminatingEnv(CartPoleEnv):
    """It sends SIGTERM to the process of the training, which waits for its step, and may take its time then."""

    def __init__(self, training: int = 0, sleeps: float = 0.0, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.training, self.sleeps, self.steps = training, sleeps, 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 20:
            os.kill(self.training, signal.SIGTERM)
            time.sleep(self.sleeps)
        return super().step(action)


gym.register("Terminating-v0", entry_point=TerminatingEnv, max_episode_steps=50)
gym.register("Terminated-v0", entry_point=TerminatedEnv, max_episode_steps=50)


def terminated(monkeypatch: pytest.MonkeyPatch, at: int | str, *options: str, sleeps: float = 0.0) -> None:
    """Train and be told to stop; then let the signal be what it was."""
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(TerminatedEnv, "at", at)
        patch.setattr(TerminatedEnv, "sleeps", sleeps)
        with pytest.raises(SystemExit) as error:
            train("ppo_penalty", "Terminated-v0", *options, *TINY, steps=160)
    assert error.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def saved_steps() -> int:
    return PPOPenalty.load(RUN / "Terminated-v0.zip").num_timesteps


def test_model_is_saved_at_once_without_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    terminated(monkeypatch, 20)
    assert saved_steps() == 19  # the step in which it was told so is not counted


def test_checkpoint_is_written_at_the_end_of_the_update_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resumable = ["--resume", "--save-freq", "1000"]
    terminated(monkeypatch, 20, *resumable)
    assert saved_steps() == 32
    assert [checkpoint.timesteps for checkpoint in list_checkpoints(RUN / "checkpoints")] == [32]
    train("ppo_penalty", "Terminated-v0", *resumable, *TINY, steps=160)
    assert f"Resuming {RUN} at step 32" in capsys.readouterr().out
    assert saved_steps() == 160


def test_update_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TERMINATION, "grace", 0.1)
    terminated(monkeypatch, 20, "--resume", sleeps=5.0)
    assert saved_steps() == 19
    assert all(checkpoint.timesteps == 16 for checkpoint in list_checkpoints(RUN / "checkpoints"))


def test_signal_while_the_run_is_wound_up_does_not_keep_it_from_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    terminated(monkeypatch, "closed")
    assert saved_steps() == 160


def test_time_that_runs_out_while_the_run_is_wound_up_does_not_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TERMINATION, "grace", 0.5)
    save = PPOPenalty.save

    def slow_save(model: PPOPenalty, *args: Any, **kwargs: Any) -> None:
        if model.num_timesteps == 160 and TERMINATION.saves:
            time.sleep(1.0)
        save(model, *args, **kwargs)

    monkeypatch.setattr(PPOPenalty, "save", slow_save)
    terminated(monkeypatch, 160, "--resume", "--save-freq", "1000")
    assert saved_steps() == 160


def test_signal_before_training_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    terminated(monkeypatch, "made")
    assert not Path("logs").exists()


def test_signal_during_a_study_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminated(monkeypatch, 20, "-optimize", "--no-optim-plots", "--n-trials", "3")


@pytest.mark.parametrize(
    ("options", "sleeps", "steps"), [([], 0.3, 38), ([], 30.0, 38), (["--resume", "--save-freq", "1000"], 0.3, 64)]
)
def test_environments_in_processes_do_not_keep_the_model_from_being_saved(
    options: list[str], sleeps: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TERMINATION, "grace", 1.0)
    kwargs = [f"training:{os.getpid()}", f"sleeps:{sleeps}"]
    tiny = ["n_envs:2", "n_steps:32", "batch_size:16", "n_epochs:1"]
    command = [*options, "--seed", "1", "--vec-env", "subproc", "--env-kwargs", *kwargs, "-params", *tiny]
    faulthandler.dump_traceback_later(60, exit=True)  # where it hangs
    with pytest.raises(SystemExit) as error:
        train("ppo_penalty", "Terminating-v0", *command, steps=1000)
    faulthandler.cancel_dump_traceback_later()
    assert error.value.code == 143
    run = Path("logs/ppo_penalty/Terminating-v0_1/Terminating-v0.zip")
    assert PPOPenalty.load(run).num_timesteps == steps

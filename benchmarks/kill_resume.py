"""Kill a run with SIGKILL at random moments and resume it, again and again, until it is done.

    python benchmarks/kill_resume.py                 # the figures of docs/reliability.md

The run writes a checkpoint after every update. One parent imports everything and forks each attempt, so that an attempt
begins at once. The child says from which step on it trains, and tells of every completed save. A random time after one
of these SIGKILL finds it wherever it is: in a rollout, in an update, in the middle of a save. One kill of four falls
before the first save of its attempt: under torch.compile that is while it compiles. The others fall within the twelve
updates after it.

Counted: kills that hit a save (a file under its temporary name was left); attempts that resumed; attempts that failed,
or began from a checkpoint older than the last save completed before; damaged files. When the kills are used up the run
goes on to its end, which must equal that of an uninterrupted run.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume
from sb3_ppo_variants.checkpoints.checkpoint_files import list_checkpoints

N_ENVS, N_STEPS = 2, 32
ROLLOUT = N_ENVS * N_STEPS


class ReportingCallback(ResumableCheckpointCallback):
    """Writes to a pipe, which outlives the process, where it began and every completed save."""

    def __init__(self, path: Path, pipe: int):
        super().__init__(save_freq=1, path=path)
        self._pipe: int | None = pipe
        self._began = False

    def _on_rollout_start(self) -> None:
        super()._on_rollout_start()
        if not self._began:
            self._began = True
            self._report()

    def _save(self, at_end: bool) -> None:
        super()._save(at_end)
        self._report()

    def _report(self) -> None:
        assert self._pipe is not None
        os.write(self._pipe, f"{self.model.num_timesteps}\n".encode())


def make_env() -> VecEnv:
    return VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * N_ENVS))


def train(folder: Path, total: int, acceleration: Any, pipe: int) -> Any:
    """Begin the run, or resume it where there is a checkpoint."""
    writer = ReportingCallback(folder, pipe)
    if list_checkpoints(folder):
        return resume(folder, make_env(), writer, device="cpu")
    settings: dict[str, Any] = {"n_steps": N_STEPS, "batch_size": 32, "n_epochs": 4, "acceleration": acceleration}
    model = PPOPenalty("MlpPolicy", make_env(), seed=0, device="cpu", **settings)
    return model.learn(total, writer)


class Attempt(NamedTuple):
    """What became of one process.

    :param began: step at which its training began; None if it did not
    :param saved: step of its last completed save; None without one
    :param until_save: seconds from the beginning of its training to its first completed save, if that was awaited
    :param status: exit status; None if it was killed
    """

    began: int | None
    saved: int | None
    until_save: float | None
    status: int | None


class Kill(NamedTuple):
    """When a process is killed.

    :param after_save: wait for its first completed save; else for the beginning of its training
    :param seconds: from then on
    """

    after_save: bool
    seconds: float


def attempt(folder: Path, total: int, acceleration: str, kill: Kill | None) -> Attempt:
    """Fork a process that trains, and kill it.

    :param folder: of the checkpoints
    :param total: environment steps of the run
    :param acceleration: of the model
    :param kill: None: let it finish
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            train(folder, total, acceleration, writing)
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        awaited, until_save = [pipe.readline()], None
        begun = time.perf_counter()
        if kill is not None and kill.after_save:
            awaited.append(pipe.readline())
            until_save = time.perf_counter() - begun
        if kill is not None:
            time.sleep(kill.seconds)
            os.kill(child, signal.SIGKILL)
        steps = [int(line) for line in [*awaited, *pipe] if line]
    _, status = os.waitpid(child, 0)
    exit_status = None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Attempt(steps[0] if steps else None, steps[-1] if len(steps) > 1 else None, until_save, exit_status)


def parameters(folder: Path) -> list[th.Tensor]:
    """Read the parameters at the end of the run."""
    return list(resume(folder, make_env(), device="cpu").policy.parameters())


def killed_run(
    folder: Path, total: int, acceleration: str, count: Counter[str], kills: int, moments: Iterator[Kill]
) -> None:
    """Train one run to its end through as many kills as are left.

    :param folder: of its checkpoints
    :param total: environment steps
    :param acceleration: of the model
    :param count: what happened, added to
    :param kills: how many in all
    :param moments: of the kills
    """
    last_save, finished = 0, False
    while not finished:
        done = attempt(folder, total, acceleration, next(moments) if count["kills"] < kills else None)
        finished = done.status is not None
        count["failed"] += done.status not in (0, None) or (done.began is None and last_save < total)
        count["resumed"] += bool(done.began)  # at a step above 0; the kill may have fallen before the save was reported
        count["older_than_last_save"] += done.began is not None and done.began < last_save
        count["kills"] += not finished
        count["in_a_save"] += any(folder.glob(".unfinished_*"))
        count["damaged"] += sum(not file.intact() for file in list_checkpoints(folder))
        count["before_the_first_save"] += not list_checkpoints(folder)
        last_save = max(last_save, done.saved or 0)
    count["runs"] += 1


def measure(kills: int, updates: int, acceleration: str, seed: int) -> dict[str, Any]:
    """Run the experiment.

    :param kills: how many
    :param updates: of the run; another one is begun if it ends before all kills are done
    :param acceleration: of the model
    :param seed: of the moments
    """
    rng, total = random.Random(seed), updates * ROLLOUT
    names = ("kills", "resumed", "before_the_first_save", "in_a_save", "older_than_last_save", "damaged", "failed")
    count = Counter(dict.fromkeys(names, 0))
    with tempfile.TemporaryDirectory() as scratch:
        until_save, per_update = undisturbed(Path(scratch), total, acceleration, updates)
        expected, equal = parameters(Path(scratch) / "whole"), True

        def moment() -> Kill:
            after_save = rng.random() < 0.75
            return Kill(after_save, rng.uniform(0, 12 * per_update if after_save else until_save))

        moments = iter(moment, None)
        while count["kills"] < kills:
            folder = Path(scratch) / str(count["runs"])
            killed_run(folder, total, acceleration, count, kills, moments)
            equal = equal and all(th.equal(a, b) for a, b in zip(expected, parameters(folder)))
    times = {"ms_until_first_save": until_save, "ms_per_update_and_save": per_update}
    return {**count, **{name: round(1000 * t, 1) for name, t in times.items()}, "equals_uninterrupted": equal}


def undisturbed(scratch: Path, total: int, acceleration: str, updates: int) -> tuple[float, float]:
    """Train once without a kill, in the folder ``whole``.

    :return: seconds from the beginning of training to the first save, and per update from then on
    """
    for name in ("first", "second"):  # whatever is made once per machine, as a compiler's cache, is made in the first
        until_save = attempt(scratch / name, total, acceleration, Kill(True, 0.0)).until_save
    assert until_save is not None
    begun = time.perf_counter()
    assert attempt(scratch / "whole", total, acceleration, None).status == 0
    return until_save, max(0.001, (time.perf_counter() - begun - until_save) / (updates - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--updates", type=int, default=600, help="length of the run")
    parser.add_argument("--acceleration", default="eager", choices=["off", "eager", "compile"])
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args()
    th.set_num_threads(1)
    warnings.filterwarnings("ignore")
    result = measure(args.kills, args.updates, args.acceleration, args.seed)
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:24}{value}")
    failures = result["failed"] + result["older_than_last_save"] + result["damaged"]
    sys.exit(1 if failures or not result["equals_uninterrupted"] else 0)


if __name__ == "__main__":
    main()

"""Kill a run with SIGKILL at random moments and resume it, again and again, until it is done.

    python benchmarks/kill_resume.py                 # the figures of docs/reliability.md

The run writes a checkpoint after every update. One parent imports everything and forks each attempt, so that an attempt
begins at once; the child is killed by SIGKILL after a random time, wherever it is: in a rollout, in an update, in the
middle of a save. Every attempt first resumes from the newest intact checkpoint. Counted: kills that hit a save
(a file under its temporary name was left), attempts that could not resume, checkpoints older than the last save that the
killed process had completed, damaged files, and whether the run's end equals that of an uninterrupted run.
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
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_ppo_variants import PPOPenalty
from sb3_ppo_variants.checkpoint_files import list_checkpoints, newest_checkpoint
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback, resume

N_ENVS, N_STEPS = 2, 32
ROLLOUT = N_ENVS * N_STEPS


class ReportingCallback(ResumableCheckpointCallback):
    """Writes the step of every completed save to a pipe, which outlives the process."""

    def __init__(self, path: Path, pipe: int):
        super().__init__(save_freq=1, path=path)
        self._pipe = pipe

    def _save(self, at_end: bool) -> None:
        super()._save(at_end)
        os.write(self._pipe, f"{self.model.num_timesteps}\n".encode())


def make_env() -> VecEnv:
    return VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * N_ENVS))


def train(folder: Path, total: int, pipe: int) -> Any:
    """Begin the run, or resume it where there is a checkpoint."""
    writer = ReportingCallback(folder, pipe)
    if list_checkpoints(folder):
        return resume(folder, make_env(), writer, device="cpu")
    model = PPOPenalty("MlpPolicy", make_env(), n_steps=N_STEPS, batch_size=32, n_epochs=4, seed=0, device="cpu")
    return model.learn(total, writer)


def attempt(folder: Path, total: int, seconds: float | None) -> tuple[int | None, list[int]]:
    """Fork a process that trains, and kill it.

    :param folder: of the checkpoints
    :param total: environment steps of the run
    :param seconds: from the fork to the kill; None: let it finish
    :return: its exit status, None if it was killed; the steps of its completed saves
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            train(folder, total, writing)
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    os.close(writing)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as pipe:
        saves = [int(line) for line in pipe.read().split()]
    _, status = os.waitpid(child, 0)
    return (None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), saves


def parameters(folder: Path) -> list[th.Tensor]:
    """Read the parameters at the end of the run."""
    return list(resume(folder, make_env(), device="cpu").policy.parameters())


def measure(kills: int, updates: int, seed: int) -> dict[str, Any]:
    """Run the experiment.

    :param kills: how many
    :param updates: of the run; it is begun anew when it ends before all kills are done
    :param seed: of the moments
    """
    rng = random.Random(seed)
    total = updates * ROLLOUT
    count = dict.fromkeys(("kills", "in_a_save", "resumed", "older_than_last_save", "damaged", "failed", "runs"), 0)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        start = time.perf_counter()
        assert attempt(whole, total, None)[0] == 0
        per_update = (time.perf_counter() - start) / updates
        expected, equal = parameters(whole), True
        while count["kills"] < kills:
            folder = Path(scratch) / str(count["runs"])
            count["runs"] += 1
            finished, last_save = False, 0
            while not finished:
                more = count["kills"] < kills
                resuming, before = bool(list_checkpoints(folder)), last_save
                status, saves = attempt(folder, total, rng.uniform(0, 12 * per_update) if more else None)
                last_save = max([last_save, *saves])
                count["failed"] += status not in (0, None)
                count["kills"] += status is None
                count["resumed"] += status is None and (not resuming or not saves or saves[0] > before)
                count["in_a_save"] += any(folder.glob(".unfinished_*"))
                count["damaged"] += sum(not file.intact() for file in list_checkpoints(folder))
                if last_save:
                    count["older_than_last_save"] += newest_checkpoint(folder).timesteps < last_save
                finished = status is not None
            equal = equal and all(th.equal(a, b) for a, b in zip(expected, parameters(folder)))
    return {**count, "ms_per_update_and_save": 1000 * per_update, "equals_uninterrupted": equal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--updates", type=int, default=200, help="length of the run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args()
    th.set_num_threads(1)
    warnings.filterwarnings("ignore")
    result = measure(args.kills, args.updates, args.seed)
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:24}{value if isinstance(value, (int, str)) else round(value, 2)}")
    failures = result["failed"] + result["older_than_last_save"] + result["damaged"]
    sys.exit(1 if failures or not result["equals_uninterrupted"] else 0)


if __name__ == "__main__":
    main()

"""A long run of small updates: memory, open files and the adaptive state after each hundred.

    python benchmarks/soak.py                        # the table of docs/reliability.md
    python benchmarks/soak.py --json soak.json

Each class, stock PPO first, trains in a process of its own with everything that a long run has: VecNormalize, an
evaluation callback and a checkpoint after every tenth update. "memory" is the resident memory, "files" the open file
descriptors, "objects" what Python's garbage collector watches; "growth" compares the last update with the one at a
tenth of the run, when caches are filled.
"""

import argparse
import gc
import json
import multiprocessing
import os
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

import sb3_ppo_variants
from sb3_ppo_variants.checkpoints import ResumableCheckpointCallback

CLASSES = ("PPO", "PPOClip", "PPOPenalty", "PPOAdaptiveClip")
N_ENVS, N_STEPS = 2, 32
COLUMNS = ("memory", "files", "objects", "beta", "clip_range", "kl")


class Soak(BaseCallback):
    """Takes one row of numbers per update, into memory that is in use from the start.

    :param updates: number of rows
    """

    def __init__(self, updates: int):
        super().__init__()
        self.table = np.full((updates, len(COLUMNS)), np.inf)
        self.row = 0

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps == 0:
            return
        logged = self.model.logger.name_to_value
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        self.table[self.row] = (
            pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            len(os.listdir("/proc/self/fd")),
            len(gc.get_objects()) if self.row % 100 == 99 else np.nan,
            getattr(self.model, "beta", np.nan),
            logged.get("train/clip_range", np.nan),
            logged.get("train/kl_divergence", np.nan),
        )
        self.row += 1

    def _on_step(self) -> bool:
        return True


def make_env() -> VecEnv:
    return VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * N_ENVS))


def soak(name: str, updates: int, acceleration: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Train one class.

    :return: the table of ``Soak``, and the bounds of the columns that have some
    """
    th.set_num_threads(1)
    warnings.filterwarnings("ignore")
    settings: dict[str, Any] = {"n_steps": N_STEPS, "batch_size": 32, "n_epochs": 4, "learning_rate": 3e-3, "seed": 0}
    ours = {} if name == "PPO" else {"acceleration": acceleration}
    cls = PPO if name == "PPO" else getattr(sb3_ppo_variants, name)
    model = cls("MlpPolicy", make_env(), device="cpu", **settings, **ours)
    watch = Soak(updates)
    with tempfile.TemporaryDirectory() as folder:
        rollout = N_ENVS * N_STEPS
        evaluation = EvalCallback(make_env(), eval_freq=50 * N_STEPS, n_eval_episodes=1, verbose=0)
        writer = ResumableCheckpointCallback(10 * rollout, Path(folder))
        model.learn(updates * rollout, [watch, evaluation, writer])
    bounds = {"beta": getattr(model, "beta_bounds", None), "clip_range": getattr(model, "clip_range_bounds", None)}
    return watch.table[: watch.row], bounds


def report(name: str, table: np.ndarray, bounds: dict[str, Any]) -> dict[str, Any]:
    """Print a class's table.

    :return: the figures for the JSON file
    """
    print(
        f"\n{name}\n{'update':>8}{'memory MB':>12}{'files':>8}{'objects':>10}{'beta':>10}{'clip_range':>12}{'kl':>10}"
    )
    for i in sorted({0, *range(99, len(table), 100), len(table) - 1}):
        memory, files, objects, beta, clip_range, kl = table[i]
        print(f"{i + 1:8}{memory:12.1f}{files:8.0f}{objects:10.0f}{beta:10.3g}{clip_range:12.3g}{kl:10.3g}")
    growth = table[-1] - table[len(table) // 10]
    figures: dict[str, Any] = {
        "updates": len(table) + 1,  # the last one is followed by no rollout
        "memory_mb": table[-1, 0],
        "memory_growth_mb": growth[0],
        "files": table[-1, 1],
        "files_growth": growth[1],
    }
    for key, bound in bounds.items():
        if bound is not None:
            values = table[:, COLUMNS.index(key)]
            figures[key] = [values.min(), values.max()]
            figures[f"{key}_within_bounds"] = bool((values >= bound[0]).all() and (values <= bound[1]).all())
    print(json.dumps(figures), flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--classes", nargs="+", default=list(CLASSES))
    parser.add_argument("--acceleration", default="eager", choices=["off", "eager", "compile"])
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    results = {}
    for name in args.classes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            table, bounds = process.submit(soak, name, args.updates, args.acceleration).result()
        results[name] = report(name, table, bounds)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

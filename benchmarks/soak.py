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


class Soak(BaseCallback):
    """Takes one row of numbers per update."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def _on_rollout_start(self) -> None:
        logged = self.model.logger.name_to_value
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        self.rows.append(
            {
                "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
                "files": len(os.listdir("/proc/self/fd")),
                "objects": len(gc.get_objects()) if len(self.rows) % 100 == 1 else float("nan"),
                "beta": getattr(self.model, "beta", float("nan")),
                "clip_range": logged.get("train/clip_range", float("nan")),
                "kl": logged.get("train/kl_divergence", float("nan")),
            }
        )

    def _on_step(self) -> bool:
        return True


def make_env() -> VecEnv:
    return VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * N_ENVS))


def soak(name: str, updates: int, acceleration: str, queue: Any) -> None:
    """Train one class and report its rows."""
    th.set_num_threads(1)
    warnings.filterwarnings("ignore")
    settings: dict[str, Any] = {"n_steps": N_STEPS, "batch_size": 32, "n_epochs": 4, "learning_rate": 3e-3, "seed": 0}
    ours = {} if name == "PPO" else {"acceleration": acceleration}
    cls = PPO if name == "PPO" else getattr(sb3_ppo_variants, name)
    model = cls("MlpPolicy", make_env(), device="cpu", **settings, **ours)
    watch = Soak()
    with tempfile.TemporaryDirectory() as folder:
        rollout = N_ENVS * N_STEPS
        evaluation = EvalCallback(make_env(), eval_freq=50 * N_STEPS, n_eval_episodes=1, verbose=0)
        writer = ResumableCheckpointCallback(10 * rollout, Path(folder))
        model.learn(updates * rollout, [writer, watch, evaluation])
    bounds = {"beta": getattr(model, "beta_bounds", None), "clip_range": getattr(model, "clip_range_bounds", None)}
    queue.put((watch.rows[1:], bounds))


def report(name: str, rows: list[dict[str, float]], bounds: dict[str, Any]) -> dict[str, Any]:
    """Print a class's table.

    :return: the figures for the JSON file
    """
    print(
        f"\n{name}\n{'update':>8}{'memory MB':>12}{'files':>8}{'objects':>10}{'beta':>10}{'clip_range':>12}{'kl':>10}"
    )
    for i in sorted({0, *range(99, len(rows), 100), len(rows) - 1}):
        row = rows[i]
        objects = next((r["objects"] for r in rows[i::-1] if r["objects"] == r["objects"]), float("nan"))
        print(
            f"{i + 1:8}{row['memory']:12.1f}{row['files']:8.0f}{objects:10.0f}"
            f"{row['beta']:10.3g}{row['clip_range']:12.3g}{row['kl']:10.3g}"
        )
    first, last = rows[len(rows) // 10], rows[-1]
    figures: dict[str, Any] = {
        "updates": len(rows) + 1,
        "memory_mb": last["memory"],
        "memory_growth_mb": last["memory"] - first["memory"],
        "files": last["files"],
        "files_growth": last["files"] - first["files"],
    }
    for key, bound in bounds.items():
        if bound is not None:
            values = np.array([row[key] for row in rows])
            figures[key] = [values.min(), values.max()]
            figures[f"{key}_within_bounds"] = bool((values >= bound[0]).all() and (values <= bound[1]).all())
    print(json.dumps(figures))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--classes", nargs="+", default=list(CLASSES))
    parser.add_argument("--acceleration", default="eager", choices=["off", "eager", "compile"])
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    context, results = multiprocessing.get_context("spawn"), {}
    for name in args.classes:
        queue = context.Queue()
        process = context.Process(target=soak, args=(name, args.updates, args.acceleration, queue))
        process.start()
        rows, bounds = queue.get()
        process.join()
        results[name] = report(name, rows, bounds)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Does the fast path learn as the reference path does? Return over whole runs, and the probability that fast is better.

    python benchmarks/same_learning.py --out docs/results/same_learning.json

PPOClip with each acceleration and the same hyperparameters, seeds 0 to n - 1. A run's score is the mean return of its
last 100 training episodes. P(fast > reference) is over all pairs of runs, ties counting half, with a 95 % interval from
10,000 bootstrap resamples of the seeds of both sides; 0.5 means no difference.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip

SETTINGS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"n_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8},
    "Pendulum-v1": {"n_envs": 4, "n_steps": 1024, "batch_size": 64, "n_epochs": 10, "gamma": 0.9},
}


def score(env: str, acceleration: str, seed: int, steps: int) -> float:
    """Train once and return the mean return of the last 100 training episodes."""
    arguments = dict(SETTINGS[env])
    vec_env = make_vec_env(env, arguments.pop("n_envs"), seed=seed)
    model = PPOClip(
        "MlpPolicy", vec_env, learning_rate=1e-3, seed=seed, device="cpu", acceleration=acceleration, **arguments
    )
    model.learn(steps)
    assert model.ep_info_buffer is not None
    return float(np.mean([episode["r"] for episode in model.ep_info_buffer]))


def probability_of_improvement(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Return P(a > b) over all pairs, ties counting half, and its 95 % bootstrap interval."""

    def probability(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
        return float(np.mean((x[:, None] > y) + 0.5 * (x[:, None] == y)))

    rng = np.random.default_rng(0)
    samples = [probability(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(10_000)]
    low, high = np.quantile(samples, [0.025, 0.975])
    return probability(a, b), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--accelerations", nargs="+", default=["off", "eager", "compile"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--timesteps", type=int, default=60_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    th.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    results: dict[str, list[float]] = {}
    for env in args.envs:
        for acceleration in args.accelerations:
            start = time.perf_counter()
            scores = [score(env, acceleration, seed, args.timesteps) for seed in range(args.seeds)]
            results[f"{env} {acceleration}"] = scores
            args.out.write_text(json.dumps(results, indent=1) + "\n")
            line = f"{env:12} {acceleration:8} mean {np.mean(scores):8.1f}  std {np.std(scores, ddof=1):6.1f}"
            if acceleration != "off":
                reference = np.array(results[f"{env} off"])
                p, low, high = probability_of_improvement(np.array(scores), reference)
                line += f"  P(better than off) {p:.2f} [{low:.2f}, {high:.2f}]"
            print(f"{line}  {(time.perf_counter() - start) / args.seeds:.1f} s per run", flush=True)


if __name__ == "__main__":
    main()

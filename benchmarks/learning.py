"""Final evaluation of each algorithm with its YAML, through the zoo's own commands, over several seeds.

    python benchmarks/learning.py --envs CartPole-v1 Pendulum-v1 --seeds 5 --out docs/results/learning.json

Every run is `python -m sb3_ppo_variants.zoo train` in a process of its own with one torch thread, then a deterministic
evaluation over 20 episodes on an environment with another seed. Runs that are already in --out are not repeated.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ZOO = [sys.executable, "-m", "sb3_ppo_variants.zoo"]


def run(algo: str, env: str, seed: int, extra: list[str]) -> dict[str, float]:
    """Train and evaluate once.

    :return: mean and standard deviation of the return over the evaluation episodes, seconds of training
    """
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as logs:
        common = ["--algo", algo, "--env", env, "-f", logs, "--num-threads", "1"]
        start = time.perf_counter()
        train = [*ZOO, "train", *common, "--seed", str(seed), "--eval-freq", "-1", "--verbose", "0", *extra]
        subprocess.run(train, check=True, env=environ, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        evaluate = [*ZOO, "evaluate", *common, "--n-episodes", "20", "--seed", str(1000 + seed)]
        output = subprocess.run(evaluate, check=True, env=environ, capture_output=True, text=True).stdout
    match = re.search(r"Evaluation over 20 episodes \(deterministic\): (\S+) \+/- (\S+)", output)
    if match is None:
        raise RuntimeError(f"no evaluation in the output of {' '.join(evaluate)}:\n{output}")
    return {"mean": float(match[1]), "std": float(match[2]), "seconds": seconds}


def header() -> str:
    """Return the head of the table that :func:`line` fills."""
    return f"{'environment':26}{'algorithm':20}{'mean':>9}{'std. error':>12}{'seconds':>9}  per seed"


def line(env: str, algo: str, runs: list[dict[str, float]]) -> str:
    """Return mean over seeds of the mean return, its standard error, and the median seconds of training."""
    means = np.array([run["mean"] for run in runs])
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else float("nan")
    seconds = np.median([run["seconds"] for run in runs])
    seeds = " ".join(f"{mean:.0f}" for mean in means)
    return f"{env:26}{algo:20}{means.mean():9.1f}{error:12.1f}{seconds:9.1f}  {seeds}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algos", nargs="+", default=["ppo", "ppo_clip", "ppo_penalty", "ppo_adaptive_clip"])
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1", "Pendulum-v1"])
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to n - 1")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="further arguments of train, last")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    results: dict[str, dict[str, float]] = json.loads(args.out.read_text()) if args.out.is_file() else {}

    def cell(key: tuple[str, str, int]) -> None:
        env, algo, seed = key
        name = f"{env} {algo} {seed}"
        if name not in results:
            results[name] = run(algo, env, seed, args.extra)
            args.out.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")

    cells = [(env, algo, seed) for env in args.envs for seed in range(args.seeds) for algo in args.algos]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(cell, cells))
    print(header())
    for env in args.envs:
        for algo in args.algos:
            print(line(env, algo, [results[f"{env} {algo} {seed}"] for seed in range(args.seeds)]))


if __name__ == "__main__":
    main()

"""Check the entries of hyperparams/ with several seeds, beside stock PPO, through the zoo's own commands.

    python benchmarks/check_entries.py --envs HalfCheetah-v5 Hopper-v5 --steps 300000 --seeds 3 --out entries

Every run is `train` in a process of its own with one torch thread, then `evaluate` over 20 deterministic episodes on an
environment with another seed. It is one file in --out, named after what was run; a run whose file is there is not
repeated, so that an interrupted check goes on where it was, and several may share a folder. --steps 0 takes the entry's
own n_timesteps.

Stock PPO gets the same settings: those of ppo_clip.yml, which are the zoo's, where the zoo has no entry of that name
(it lists the v4 environments of MuJoCo); its own entry otherwise.
"""

import argparse
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

HYPERPARAMS = Path(__file__).resolve().parents[1] / "hyperparams"
ALGOS = ["ppo", "ppo_clip", "ppo_penalty", "ppo_adaptive_clip"]
ZOO = [sys.executable, "-m", "sb3_ppo_variants.zoo"]


class Cell(NamedTuple):
    """What one file holds the result of; `steps` 0 stands for the entry's own number, `params` are overridden."""

    env: str
    algo: str
    steps: int
    params: tuple[str, ...]
    seed: int

    def path(self, folder: Path) -> Path:
        """Return the file of the result."""
        parts = [self.env, self.algo, str(self.steps or "full"), *self.params, f"seed{self.seed}"]
        return folder / ("_".join(parts).replace("/", "-").replace(":", "=") + ".json")

    def arguments(self) -> list[str]:
        """Return what `train` gets beside algorithm, environment and seed."""
        steps = ["-n", str(self.steps)] if self.steps else []
        ours = ["--conf-file", str(HYPERPARAMS / "ppo_clip.yml")]
        params = ["-params", *self.params] if self.params else []
        return [*steps, *(ours if self.algo == "ppo" and self.env not in zoo_entries() else []), *params]


@functools.cache
def zoo_entries() -> set[str]:
    """Return the environments that the zoo's ppo.yml lists; the zoo is not imported for it."""
    spec = importlib.util.find_spec("rl_zoo3")
    assert spec is not None
    assert spec.origin is not None
    return set(yaml.safe_load((Path(spec.origin).parent / "hyperparams" / "ppo.yml").read_text()))


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


def check(cell: Cell, folder: Path) -> dict[str, float]:
    """Return the result of a cell, from its file if it is there."""
    path = cell.path(folder)
    if not path.is_file():
        result = run(cell.algo, cell.env, cell.seed, cell.arguments())
        written = path.with_suffix(".part")
        written.write_text(json.dumps(result) + "\n")
        written.replace(path)  # at once, so that no half-written file counts as done
        print(f"{path.stem}: {result['mean']:.1f} +/- {result['std']:.1f}, {result['seconds']:.0f} s", flush=True)
    result: dict[str, float] = json.loads(path.read_text())
    return result


def line(env: str, algo: str, runs: list[dict[str, float]]) -> str:
    """Return a line of the table: mean over the seeds, its standard error, every seed, median seconds of training."""
    means = np.array([run["mean"] for run in runs])
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else float("nan")
    seconds = np.median([run["seconds"] for run in runs])
    seeds = " ".join(f"{mean:.0f}" for mean in means)
    return f"| {env} | {algo} | {means.mean():.0f} | {error:.0f} | {seeds} | {seconds:.0f} |"


def main() -> None:
    listed = list(yaml.safe_load((HYPERPARAMS / "ppo_clip.yml").read_text()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algos", nargs="+", default=ALGOS)
    parser.add_argument("--envs", nargs="+", default=[env for env in listed if env != "atari"])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="e.g. 10, to choose values with other seeds")
    parser.add_argument("--steps", type=int, default=0, help="steps of training; 0: those of the entry")
    parser.add_argument("--params", nargs="+", default=[], help="hyperparameters to try, as train's -params")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file per run")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def cells(env: str, algo: str) -> list[Cell]:
        return [Cell(env, algo, args.steps, tuple(args.params), args.first_seed + i) for i in range(args.seeds)]

    # Seed by seed over all cells: what an interrupted check has is comparable.
    order = [cells(env, algo)[seed] for seed in range(args.seeds) for env in args.envs for algo in args.algos]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda cell: check(cell, args.out), order))
    print("| environment | algorithm | mean | std. error | per seed | seconds |\n|---|---|---|---|---|---|")
    for env in args.envs:
        for algo in args.algos:
            print(line(env, algo, [check(cell, args.out) for cell in cells(env, algo)]))


if __name__ == "__main__":
    main()

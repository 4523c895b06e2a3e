"""Does the fast path learn as the reference path does? Returns of whole runs with the same random draws, in pairs.

    python benchmarks/same_learning.py --jobs 2 --out same_learning.jsonl
    python benchmarks/same_learning.py --table --out same_learning.jsonl      # of those that are there

PPOClip with the zoo's hyperparameters; n seeds from the first. With one seed "eager" and "compile" draw what "off"
draws, and "off" is stock PPO to the last bit: a pair of runs is the same training until rounding separates them. Scores
of a run: the mean return of the last 100 training episodes, that over the training, and that of 100 episodes of the
final policy's most likely actions. The table has the mean difference of the pairs with its 95 % interval (scipy's
bootstrap, BCa), in per cent of the way from the random policy's return to that of "off". One line per run; a run that
is in the file already is not repeated.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from recorded_runs import Returns, Row, read_rows, run_missing
from scipy import stats
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ppo_variants import PPOClip

ACCELERATIONS = ("off", "eager", "compile")
SCORES = ("last_100_episodes", "over_training", "final_policy")


class Setting(NamedTuple):
    """Hyperparameters, steps of a run, and the random policy's mean return (docs/results/defaults/report.md)."""

    n_envs: int
    steps: int
    random: float
    arguments: dict[str, Any]


_PENDULUM = {"n_steps": 1024, "batch_size": 64, "n_epochs": 10, "gamma": 0.9, "learning_rate": 1e-3}
_CARTPOLE = {"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8, "learning_rate": 1e-3}
_LANDER = {"n_steps": 1024, "batch_size": 64, "n_epochs": 4, "gamma": 0.999, "gae_lambda": 0.98, "ent_coef": 0.01}
SETTINGS = {
    "CartPole-v1": Setting(8, 60_000, 21.1, _CARTPOLE),
    "Pendulum-v1": Setting(4, 60_000, -1248.0, _PENDULUM),
    "LunarLander-v3": Setting(16, 100_000, -175.0, _LANDER),
}


def run(env: str, acceleration: str, seed: int, steps: int) -> Row:
    """Train once."""
    setting, returns = SETTINGS[env], Returns()
    vec_env = make_vec_env(env, setting.n_envs, seed=seed)
    arguments = {**setting.arguments, "seed": seed, "device": "cpu", "acceleration": acceleration}
    model = PPOClip("MlpPolicy", vec_env, **arguments)
    start = time.process_time()
    model.learn(steps, callback=returns)
    seconds = round(time.process_time() - start, 1)
    final_policy, _ = evaluate_policy(model, make_vec_env(env, 1, seed=10_000 + seed), n_eval_episodes=100)
    return {
        "last_100_episodes": float(np.mean(returns.found[-100:])),
        "over_training": float(np.mean(returns.found)),
        "final_policy": float(final_policy),
        "processor_seconds": seconds,
    }


def table(rows: list[Row]) -> Iterator[str]:
    """Write the runs as a Markdown table."""
    scores = [score for score in SCORES if all(score in row for row in rows)]  # early files have no final policies
    names = "".join(f" {score.replace('_', ' ')} | difference |" for score in scores)
    yield f"| environment | path | pairs |{names}"
    yield "|---" * (3 + 2 * len(scores)) + "|"
    by_run = {(row["env"], row["acceleration"], row["seed"]): row for row in rows}
    for env in dict.fromkeys(row["env"] for row in rows):
        for acceleration in ACCELERATIONS:
            seeds = [s for e, a, s in by_run if (e, a) == (env, acceleration) and (env, "off", s) in by_run]
            if not seeds:
                continue
            columns = []
            for score in scores:
                own, off = (np.array([by_run[env, a, s][score] for s in seeds]) for a in (acceleration, "off"))
                columns += [f"{own.mean():.1f}", difference(own - off, off.mean() - SETTINGS[env].random)]
            yield f"| {env} | {acceleration} | {len(seeds)} | {' | '.join(columns)} |"


def difference(pairs: np.ndarray, way: float) -> str:
    """Describe the mean of paired differences in per cent of ``way``, with its interval; none of one pair or zeros."""
    if len(pairs) < 2 or not pairs.any():
        return ""
    interval = stats.bootstrap((pairs,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    low, middle, high = (100 * x / way for x in (interval.low, pairs.mean(), interval.high))
    return f"{middle:+.1f} % [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--accelerations", nargs="+", choices=ACCELERATIONS, default=ACCELERATIONS)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, help="of a run, in place of the setting's")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of --out, train nothing")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    order = itertools.product(seeds, arguments.envs, arguments.accelerations)
    cells: list[Row] = [
        {"env": env, "acceleration": how, "seed": s, "steps": arguments.steps or SETTINGS[env].steps}
        for s, env, how in order
    ]
    if not arguments.table:
        run_missing(arguments.out, cells, run, arguments.jobs)
    rows = read_rows(arguments.out)
    print("\n".join(table([row for row in rows if any(cell.items() <= row.items() for cell in cells)])))


if __name__ == "__main__":
    main()

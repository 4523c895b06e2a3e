"""Learning on the recurrent and the maskable host: whether KL control costs anything there, and whether memory helps.

    python benchmarks/hosts.py --jobs 2 --out docs/results/hosts.jsonl
    python benchmarks/hosts.py --table --out docs/results/hosts.jsonl      # of the runs there

`recurrent`: CartPole-v1 without velocities, the settings of rl-zoo3's `ppo_lstm` entry (the MLP without the LSTM).
`masked`: contrib's InvalidActionEnvDiscrete, 80 actions of which 60 are invalid at every step, 100 steps an episode,
gamma = 0.4 as in contrib's documents, n_steps = 1024, default settings otherwise. The score is the mean return of 20
deterministic episodes. One line per run; a run that is in the file already is not repeated.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from recorded_runs import Row, read_rows, run_missing
from rl_zoo3 import linear_schedule
from rl_zoo3.wrappers import MaskVelocityWrapper
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants import MaskablePPOPenalty, RecurrentPPOAdaptiveClip, RecurrentPPOPenalty

LSTM = {
    "activation_fn": th.nn.ReLU,
    "ortho_init": False,
    "lstm_hidden_size": 64,
    "enable_critic_lstm": True,
    "net_arch": {"pi": [64], "vf": [64]},
}
CARTPOLE = {"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gae_lambda": 0.8, "gamma": 0.98}
STEPS = {"recurrent": 200_000, "masked": 8192}
FORWARD: dict[str, Any] = {"kl_direction": "forward"}  # the default when these were measured
RUNS: dict[str, dict[str, tuple[type[Any], dict[str, Any]]]] = {
    "recurrent": {
        "PPO, MLP": (PPO, {}),
        "RecurrentPPO": (RecurrentPPO, {}),
        "RecurrentPPOPenalty()": (RecurrentPPOPenalty, FORWARD),
        "RecurrentPPOPenalty(target_kl=0.03)": (RecurrentPPOPenalty, {"target_kl": 0.03, **FORWARD}),
        "RecurrentPPOAdaptiveClip()": (RecurrentPPOAdaptiveClip, {}),
    },
    "masked": {
        "MaskablePPO": (MaskablePPO, {}),
        "MaskablePPOPenalty()": (MaskablePPOPenalty, FORWARD),
        "MaskablePPOPenalty(target_kl=0.1)": (MaskablePPOPenalty, {"target_kl": 0.1, **FORWARD}),
        "MaskablePPOPenalty(clip_range=0.2)": (MaskablePPOPenalty, {"clip_range": 0.2, **FORWARD}),
    },
}


def run_recurrent(cls: type[Any], arguments: dict[str, Any], seed: int, steps: int) -> float:
    env = VecNormalize(make_vec_env("CartPole-v1", 8, seed=seed, wrapper_class=MaskVelocityWrapper))
    more: dict[str, Any] = {"learning_rate": linear_schedule(1e-3), **CARTPOLE, **arguments}
    if cls is not RecurrentPPOPenalty:
        more["clip_range"] = linear_schedule(0.2)
    if cls is not PPO:
        more["policy_kwargs"] = LSTM
    model = cls("MlpPolicy" if cls is PPO else "MlpLstmPolicy", env, seed=seed, **more).learn(steps)
    evaluation = VecNormalize(
        make_vec_env("CartPole-v1", 1, seed=1000 + seed, wrapper_class=MaskVelocityWrapper),
        training=False,
        norm_reward=False,
    )
    evaluation.obs_rms = env.obs_rms
    return float(evaluate_policy(model, evaluation, n_eval_episodes=20)[0])


def run_masked(cls: type[Any], arguments: dict[str, Any], seed: int, steps: int) -> float:
    def make() -> InvalidActionEnvDiscrete:
        return InvalidActionEnvDiscrete(dim=80, n_invalid_actions=60)

    env = make_vec_env(make, 1, seed=seed)
    model = cls("MlpPolicy", env, seed=seed, n_steps=1024, gamma=0.4, **arguments).learn(steps)
    return float(evaluate_masked(model, make_vec_env(make, 1, seed=1000 + seed), n_eval_episodes=20)[0])


def run(task: str, algorithm: str, seed: int, steps: int) -> Row:
    """Train once, and evaluate."""
    cls, arguments = RUNS[task][algorithm]
    start = time.process_time()
    score = (run_recurrent if task == "recurrent" else run_masked)(cls, arguments, seed, steps)
    return {"mean": round(score, 2), "processor_seconds": round(time.process_time() - start, 1)}


def table(rows: list[Row]) -> Iterator[str]:
    """Write the runs as a Markdown table."""
    yield "| task | steps | algorithm | seeds | mean |"
    yield "|---|---|---|---|---|"
    found = sorted(rows, key=lambda row: (row["task"], list(RUNS[row["task"]]).index(row["algorithm"]), row["seed"]))
    for (task, steps, algorithm), group in itertools.groupby(found, lambda r: (r["task"], r["steps"], r["algorithm"])):
        means = [row["mean"] for row in group]
        yield f"| {task} | {steps:,} | `{algorithm}` | {', '.join(f'{m:.0f}' for m in means)} | {np.mean(means):.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to n - 1")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of --out, train nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        cells = [
            {"task": task, "algorithm": algorithm, "seed": seed, "steps": STEPS[task]}
            for task in arguments.tasks
            for seed in range(arguments.seeds)
            for algorithm in RUNS[task]
        ]
        run_missing(arguments.out, cells, run, arguments.jobs)
    print("\n".join(table(read_rows(arguments.out))))


if __name__ == "__main__":
    main()

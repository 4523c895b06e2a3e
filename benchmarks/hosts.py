"""Learning on the recurrent and the maskable host: whether KL control costs anything there, and whether memory helps.

    python benchmarks/hosts.py --seeds 3 --jobs 2 --out docs/results/hosts.json

`recurrent`: CartPole-v1 without velocities, 200,000 steps, the settings of rl-zoo3's `ppo_lstm` entry (the MLP without
the LSTM), with target_kl = 0.03 for the penalty and 0.02 for the adaptive clip. `masked`: contrib's
InvalidActionEnvDiscrete, 80 actions of which 60 are invalid at every step, 100 steps an episode, gamma = 0.4 as in
contrib's documents, n_steps = 1024, default settings otherwise. Each run is a process with one torch thread; the score
is the mean return of 20 deterministic episodes. Runs that are already in --out are not repeated.
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
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
RUNS: dict[str, dict[str, tuple[type[Any], dict[str, Any]]]] = {
    "recurrent": {
        "PPO (MLP)": (PPO, {}),
        "RecurrentPPO": (RecurrentPPO, {"policy_kwargs": LSTM}),
        "RecurrentPPOPenalty": (RecurrentPPOPenalty, {"policy_kwargs": LSTM, "target_kl": 0.03}),
        "RecurrentPPOAdaptiveClip": (RecurrentPPOAdaptiveClip, {"policy_kwargs": LSTM, "target_kl": 0.02}),
    },
    "masked": {
        "MaskablePPO": (MaskablePPO, {}),
        "MaskablePPOPenalty": (MaskablePPOPenalty, {}),
        "..., target_kl=0.1": (MaskablePPOPenalty, {"target_kl": 0.1}),
        "..., clip_range=0.2": (MaskablePPOPenalty, {"clip_range": 0.2}),
    },
}


def run_recurrent(cls: type[Any], arguments: dict[str, Any], seed: int, timesteps: int) -> float:
    env = VecNormalize(make_vec_env("CartPole-v1", 8, seed=seed, wrapper_class=MaskVelocityWrapper))
    schedules = {"learning_rate": linear_schedule(1e-3), "clip_range": linear_schedule(0.2)}
    if cls is RecurrentPPOPenalty:
        del schedules["clip_range"]
    policy = "MlpPolicy" if cls is PPO else "MlpLstmPolicy"
    model = cls(policy, env, seed=seed, **CARTPOLE, **schedules, **arguments).learn(timesteps)
    evaluation = VecNormalize(
        make_vec_env("CartPole-v1", 1, seed=1000 + seed, wrapper_class=MaskVelocityWrapper),
        training=False,
        norm_reward=False,
    )
    evaluation.obs_rms = env.obs_rms
    return float(evaluate_policy(model, evaluation, n_eval_episodes=20)[0])


def run_masked(cls: type[Any], arguments: dict[str, Any], seed: int, timesteps: int) -> float:
    def make() -> InvalidActionEnvDiscrete:
        return InvalidActionEnvDiscrete(dim=80, n_invalid_actions=60)

    model = cls("MlpPolicy", make_vec_env(make, 1, seed=seed), seed=seed, n_steps=1024, gamma=0.4, **arguments).learn(
        timesteps
    )
    return float(evaluate_masked(model, make_vec_env(make, 1, seed=1000 + seed), n_eval_episodes=20)[0])


def run(key: tuple[str, str, int, int]) -> tuple[str, dict[str, float]]:
    task, name, seed, timesteps = key
    th.set_num_threads(1)
    cls, arguments = RUNS[task][name]
    start = time.perf_counter()
    score = (run_recurrent if task == "recurrent" else run_masked)(cls, arguments, seed, timesteps)
    return f"{task} {timesteps} {name} {seed}", {"mean": score, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to n - 1")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--timesteps", type=int, default=200_000, help="of the recurrent runs")
    parser.add_argument("--masked-timesteps", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    results: dict[str, dict[str, float]] = json.loads(args.out.read_text()) if args.out.is_file() else {}
    lengths = {"recurrent": [args.timesteps], "masked": args.masked_timesteps}
    keys = [(t, n, s, k) for t in RUNS for k in lengths[t] for s in range(args.seeds) for n in RUNS[t]]
    missing = [(t, n, s, k) for t, n, s, k in keys if f"{t} {k} {n} {s}" not in results]
    with multiprocessing.get_context("spawn").Pool(args.jobs, maxtasksperchild=1) as pool:
        for name, result in pool.imap_unordered(run, missing, chunksize=1):
            results[name] = result
            args.out.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
            print(name, result, flush=True)
    print(f"{'task':10}{'steps':>8}  {'algorithm':26}{'mean':>8}{'s.e.':>7}{'seconds':>9}  per seed")
    for task, runs in RUNS.items():
        for steps in lengths[task]:
            for name in runs:
                cells = [results[f"{task} {steps} {name} {seed}"] for seed in range(args.seeds)]
                means = np.array([cell["mean"] for cell in cells])
                error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else float("nan")
                seconds = np.median([cell.get("seconds", np.nan) for cell in cells])
                seeds = " ".join(f"{mean:.0f}" for mean in means)
                print(f"{task:10}{steps:8}  {name:26}{means.mean():8.1f}{error:7.1f}{seconds:9.1f}  {seeds}")


if __name__ == "__main__":
    main()

"""How to hold the KL: what each way costs or gains, with SB3's default hyperparameters as a new user gets them.

``python benchmarks/kl_control.py --out kl_control.jsonl`` trains every arm on every environment with every seed, one
line per run; a run that is in the file already is not repeated. ``--table`` prints the table of a file instead.

Per run: mean return over the training and over its last quarter (of the training episodes), mean and 95th percentile
of the exact KL of the updates (stock PPO: of the sampled estimate), share of updates in [target / 1.5, 1.5 target],
epochs per update, the last beta, clip scale or learning-rate scale.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kl_control_arms import ARMS
from recorded_runs import Returns, Row, read_rows, record_updates, run_missing
from scipy import stats
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

ENVIRONMENTS = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0", "LunarLander-v3")
MUJOCO = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
TARGET = 0.01
COEFFICIENTS = ("beta", "clip_scale", "lr_scale")


def target_of(model: Any) -> float:
    """The KL that the arm aims at: target_kl of the adaptive classes, else the bound, else TARGET."""
    adaptive = hasattr(model, "adaptation_factor") and model.target_kl
    return float(adaptive or getattr(model, "max_kl", None) or TARGET)


def run(env: str, arm: str, seed: int, steps: int, learning_rate: float) -> Row:
    cls, arguments = ARMS[arm]
    vec_env: Any = make_vec_env(env, n_envs=1, seed=seed)
    vec_env = VecNormalize(vec_env) if env in MUJOCO else vec_env
    model = cls("MlpPolicy", vec_env, seed=seed, device="cpu", learning_rate=learning_rate, **arguments)
    returns = Returns()
    updates = record_updates(model, steps, returns)
    when, scores = np.array(returns.ends), np.array(returns.found)
    kl, target = updates["kl_divergence"], target_of(model)
    kl = np.where(np.isnan(kl), updates["approx_kl"], kl)
    return {
        "over_training": float(np.interp(np.linspace(0, steps, 101), when, scores).mean()),
        "last_quarter": float(scores[when > 0.75 * steps].mean()) if (when > 0.75 * steps).any() else float(scores[-1]),
        "kl": float(kl.mean()),
        "kl_95": float(np.quantile(kl, 0.95)),
        "kl_max": float(kl.max()),
        "in_band": float(((kl >= target / 1.5) & (kl <= 1.5 * target)).mean()),
        "epochs": float(np.nan_to_num(updates["epochs_done"], nan=model.n_epochs).mean()),
        "coefficient": next((float(vars(model)[name]) for name in COEFFICIENTS if name in vars(model)), np.nan),
    }


def table(rows: list[Row]) -> Iterator[str]:
    yield "| task | rate | steps | arm | seeds | over training | last quarter | KL 95 % | max | in band | epochs |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    frame = pd.DataFrame(rows)
    frame["arm"] = pd.Categorical(frame["arm"], list(ARMS))
    for (env, rate, steps, arm), found in frame.groupby(["env", "learning_rate", "steps", "arm"], observed=True):
        mean, n = found.mean(numeric_only=True), len(found)
        half = stats.t.ppf(0.975, n - 1) * found.sem(numeric_only=True)
        scores = " | ".join(f"{mean[key]:.0f} ± {half[key]:.0f}" for key in ("over_training", "last_quarter"))
        kl = " | ".join(f"{mean[key]:.4f}" for key in ("kl_95", "kl_max"))
        rest = " | ".join(f"{mean[key]:.2f}" for key in ("in_band", "epochs"))
        yield f"| {env} | {rate:g} | {steps} | {arm} | {n} | {scores} | {kl} | {rest} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=[*ENVIRONMENTS, *MUJOCO])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 102, 103])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of --out, train nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print("\n".join(table(read_rows(arguments.out))))
        return
    rest = {"steps": arguments.steps, "learning_rate": arguments.learning_rate}
    order = itertools.product(arguments.seeds, arguments.envs, arguments.arms)
    cells = [{"env": env, "arm": arm, "seed": seed, **rest} for seed, env, arm in order]
    run_missing(arguments.out, cells, run, arguments.jobs)


if __name__ == "__main__":
    main()

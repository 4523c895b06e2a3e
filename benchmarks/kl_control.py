"""How to hold the KL: what each way costs or gains, with SB3's default hyperparameters as a new user gets them.

``python benchmarks/kl_control.py --out kl_control.jsonl`` trains every arm on every environment with every seed, one
line per run; a run that is in the file already is not repeated. ``--table`` prints the table of a file instead.

Per run: mean return over the training and over its last quarter (of the training episodes), mean and 95th percentile
of the exact KL of the updates (stock PPO: of the sampled estimate), share of updates in [target / 1.5, 1.5 target],
epochs per update, the last beta, clip scale or learning-rate scale.
"""

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from kl_control_arms import ARMS
from scipy import stats
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants.callbacks import UpdateCallback

ENVIRONMENTS = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0", "LunarLander-v3")
MUJOCO = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
TARGET = 0.01
COEFFICIENTS = ("beta", "clip_scale", "lr_scale")


class Watch(UpdateCallback):
    """Keeps the KL and the epochs of every update."""

    def __init__(self) -> None:
        super().__init__()
        self.kl: list[float] = []
        self.epochs: list[float] = []

    def _on_update(self, logged: Any) -> None:
        self.kl.append(float(logged.get("train/kl_divergence", logged["train/approx_kl"])))
        self.epochs.append(float(logged.get("train/epochs_done", self.model.n_epochs)))


class Returns(BaseCallback):
    """Keeps the return of every episode and when it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        infos = [info for info in self.locals["infos"] if "episode" in info]
        self.found += [(self.num_timesteps, info["episode"]["r"]) for info in infos]
        return True


def target_of(model: Any) -> float:
    """The KL that the arm aims at: target_kl of the adaptive classes, else the bound, else TARGET."""
    adaptive = hasattr(model, "adaptation_factor") and model.target_kl
    return float(adaptive or getattr(model, "max_kl", None) or TARGET)


def run(cell: tuple[str, str, int, int, float]) -> dict[str, Any]:
    env_id, arm, seed, steps, rate = cell
    th.set_num_threads(1)
    cls, arguments = ARMS[arm]
    env: Any = make_vec_env(env_id, n_envs=1, seed=seed)
    env = VecNormalize(env) if env_id in MUJOCO else env
    model = cls("MlpPolicy", env, seed=seed, device="cpu", learning_rate=rate, **arguments)
    watch, returns = Watch(), Returns()
    model.learn(steps, callback=[watch, returns])
    when, scores = (np.array(column, dtype=float) for column in zip(*returns.found))
    kl, target = np.array(watch.kl), target_of(model)
    return {
        **{"env": env_id, "arm": arm, "seed": seed, "steps": steps, "learning_rate": rate},
        "over_training": float(np.interp(np.linspace(0, steps, 101), when, scores).mean()),
        "last_quarter": float(scores[when > 0.75 * steps].mean()) if (when > 0.75 * steps).any() else float(scores[-1]),
        "kl": float(kl.mean()),
        "kl_95": float(np.quantile(kl, 0.95)),
        "kl_max": float(kl.max()),
        "in_band": float(((kl >= target / 1.5) & (kl <= 1.5 * target)).mean()),
        "epochs": float(np.mean(watch.epochs)),
        "coefficient": next((float(vars(model)[name]) for name in COEFFICIENTS if name in vars(model)), np.nan),
    }


def table(path: Path) -> Iterator[str]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["env"], row["learning_rate"], row["arm"]), []).append(row)
    yield "| environment | rate | arm | seeds | over training | last quarter | KL 95 % | KL max | in band | epochs |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    order = list(ARMS)
    for (env, rate, arm), found in sorted(groups.items(), key=lambda g: (g[0][0], g[0][1], order.index(g[0][2]))):
        means = [np.mean([row[key] for row in found]) for key in ("over_training", "last_quarter")]
        half = [
            stats.t.ppf(0.975, len(found) - 1) * np.std([row[key] for row in found], ddof=1) / len(found) ** 0.5
            if len(found) > 1
            else np.nan
            for key in ("over_training", "last_quarter")
        ]
        scores = " | ".join(f"{m:.0f} ± {h:.0f}" for m, h in zip(means, half))
        kl = " | ".join(f"{np.mean([row[key] for row in found]):.4f}" for key in ("kl_95", "kl_max"))
        rest = " | ".join(f"{np.mean([row[key] for row in found]):.2f}" for key in ("in_band", "epochs"))
        yield f"| {env} | {rate:g} | {arm} | {len(found)} | {scores} | {kl} | {rest} |"


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
        print("\n".join(table(arguments.out)))
        return
    done = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    known = {(row["env"], row["arm"], row["seed"], row["steps"], row["learning_rate"]) for row in done}
    cells = [
        (env, arm, seed, arguments.steps, arguments.learning_rate)
        for seed in arguments.seeds
        for env in arguments.envs
        for arm in arguments.arms
    ]
    with multiprocessing.Pool(arguments.jobs, maxtasksperchild=8) as pool, arguments.out.open("a") as file:
        for row in pool.imap_unordered(run, [cell for cell in cells if cell not in known]):
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main()

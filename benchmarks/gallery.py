"""What the published trust regions of examples/variants/ learn, and how far an update of each goes.

    python benchmarks/gallery.py --out docs/results/gallery.jsonl

All from one set of hyperparameters per environment, with the papers' constants of each. "ppo" is PPOClip with its
defaults: stock PPO's objective, on the fast path. A run's score is the mean return of its last 100 training episodes;
the interval is Student's over the seeds. The KL is the exact one of every update, its median over all runs.

With --fine-tuning a cloned policy goes on: the actor of a trained model beside a critic that knows nothing. "free" is
PPO from there on, "held" has the KL to the clone in its loss. "before" is the mean return of the last 100 episodes of
the model that was cloned; the last column is the lowest mean return of 20 consecutive episodes. One line per run; a run
that is in the file already is not repeated.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from recorded_runs import Returns, Row, record_updates, run_missing
from scipy import stats
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "variants"))
from espo import ESPO
from klip import KLipPPO
from p3o import P3O
from reference_kl import PPOReferenceKL
from rollback import PPORollback
from spo import SPO
from trppo import TRPPO

SETTINGS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"n_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8},
    "Pendulum-v1": {"n_envs": 4, "n_steps": 1024, "batch_size": 64, "n_epochs": 10, "gamma": 0.9},
}
ARMS: dict[str, type[Any]] = {
    "ppo": PPOClip,
    "ppo_rollback": PPORollback,
    "klip_ppo": KLipPPO,
    "spo": SPO,
    "trppo": TRPPO,
    "espo": ESPO,
    "p3o": P3O,
}
FINE_TUNING: dict[str, dict[str, Any]] = {"free": {"reference_coef": 0.0}, "held": {"reference_coef": 1.0}}


def build(cls: type[Any], env: str, seed: int, **arguments: Any) -> Any:
    settings = {**SETTINGS[env], **arguments}
    vec_env = make_vec_env(env, settings.pop("n_envs"), seed=seed)
    return cls("MlpPolicy", vec_env, learning_rate=1e-3, seed=seed, device="cpu", **settings)


def run(cls: type[Any], env: str, seed: int, steps: int, **arguments: Any) -> Row:
    """Train once."""
    returns = Returns()
    updates = record_updates(build(cls, env, seed, **arguments), steps, returns)
    windows = np.convolve(returns.found, np.full(20, 1 / 20), "valid")
    return {
        "score": float(np.mean(returns.found[-100:])),
        "lowest": float(windows.min()),
        "kl": np.round(updates["kl_divergence"], 5).tolist(),
    }


def fine_tune(env: str, seed: int, steps: int, **arguments: Any) -> Row:
    """Train an actor, put a new critic beside it, and go on."""
    actor, clone = build(PPOClip, env, 100 + seed), build(PPOClip, env, 200 + seed)
    returns = Returns()
    actor.learn(steps, callback=returns)
    kept = {key: value for key, value in actor.policy.state_dict().items() if "value" not in key}
    clone.policy.load_state_dict(kept, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        clone.save(f"{folder}/clone")
        tuned = run(PPOReferenceKL, env, seed, steps // 2, reference=f"{folder}/clone", **arguments)
    return {**tuned, "before": float(np.mean(returns.found[-100:]))}


def train(env: str, arm: str, seed: int, steps: int) -> Row:
    """Do the run of one line."""
    if arm in FINE_TUNING:
        return fine_tune(env, seed, steps, **FINE_TUNING[arm])
    return run(ARMS[arm], env, seed, steps)


def table(rows: list[Row], env: str, arms: list[str]) -> str:
    """Return a Markdown table of one environment."""
    lines = ["| | return (95 % interval) | KL of an update, median | runs |", "|---|---|---|---|"]
    if arms[0] in FINE_TUNING:
        lines = [lines[0] + " before | lowest 20 episodes |", lines[1] + "---|---|"]
    for arm in arms:
        runs = [row for row in rows if (row["env"], row["arm"]) == (env, arm)]
        if len(runs) < 2:
            continue
        scores = np.array([one["score"] for one in runs])
        half = float(stats.t.ppf(0.975, len(runs) - 1) * stats.sem(scores))
        kl = float(np.median(np.concatenate([one["kl"] for one in runs])))
        line = f"| `{arm}` | {scores.mean():.0f} ± {half:.0f} | {kl:.4f} | {len(runs)} |"
        if arm in FINE_TUNING:
            line += "".join(f" {np.mean([one[name] for one in runs]):.0f} |" for name in ("before", "lowest"))
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--timesteps", type=int, default=50_000, help="half of it for fine-tuning")
    parser.add_argument("--fine-tuning", action="store_true", help="of a clone, instead")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    arms = list(FINE_TUNING if args.fine_tuning else ARMS)
    order = itertools.product(range(args.seeds), args.envs, arms)
    cells = [{"env": env, "arm": arm, "seed": seed, "steps": args.timesteps} for seed, env, arm in order]
    rows = run_missing(args.out, cells, train, args.jobs)
    for env in args.envs:
        print(f"\n{env}\n\n{table(rows, env, arms)}")


if __name__ == "__main__":
    main()

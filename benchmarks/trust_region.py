"""Does the controller hold the KL? Share of updates whose exact KL lies in [target / 1.5, 1.5 target].

    python benchmarks/trust_region.py --out docs/results/trust_region.json

The first 20 % of the updates of a run are left out. "plain" is the paper's rule alone: one step of 2 (beta) or 1.5
(epsilon) after an update, no stop; "default" is what the classes do. "return" is the mean over the last 100 episodes of
training.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from recorded_runs import one_quiet_thread, record_updates
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ppo_variants import PPOAdaptiveClip, PPOPenalty

TARGET = 0.01
PLAIN: dict[str, Any] = {"adapt_after": "update", "max_kl": None}
RULES: list[tuple[str, type[Any], dict[str, Any]]] = [
    ("PPOPenalty plain", PPOPenalty, {**PLAIN, "adaptation_factor": 2.0, "kl_direction": "forward"}),
    ("PPOPenalty default", PPOPenalty, {"kl_direction": "forward"}),  # the default when these were measured
    ("PPOAdaptiveClip plain", PPOAdaptiveClip, {**PLAIN, "adaptation_factor": 1.5}),
    ("PPOAdaptiveClip default", PPOAdaptiveClip, {}),
]


def run(cls: type[Any], env: str, seed: int, steps: int, **kwargs: Any) -> dict[str, float]:
    """Train once.

    :return: shares of updates in, below and above the band, 95th percentile of the KL, mean epochs, final return
    """
    if env == "CartPole-v1":
        vec_env: Any = make_vec_env(env, 4, seed=seed)
        kwargs = {"n_steps": 512, "batch_size": 64, "n_epochs": 10, **kwargs}
    else:
        vec_env = VecNormalize(make_vec_env(env, 1, seed=seed))
    model = cls("MlpPolicy", vec_env, seed=seed, device="cpu", target_kl=TARGET, **kwargs)
    updates = record_updates(model, steps)
    kl = updates["kl_divergence"][len(updates["update"]) // 5 :]
    return {
        "inside": float(np.mean((kl >= TARGET / 1.5) & (kl <= 1.5 * TARGET))),
        "below": float(np.mean(kl < TARGET / 1.5)),
        "above": float(np.mean(kl > 1.5 * TARGET)),
        "kl_95": float(np.quantile(kl, 0.95)),
        "epochs": float(np.mean(updates["epochs_done"])),
        "return": float(np.mean([episode["r"] for episode in model.ep_info_buffer])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1", "HalfCheetah-v5"])
    parser.add_argument("--timesteps", nargs="+", type=int, default=[100_000, 300_000], help="per environment")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to n - 1")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    one_quiet_thread()
    results: dict[str, list[dict[str, float]]] = {}
    print(f"{'':40}{'inside':>8}{'below':>8}{'above':>8}{'KL 95%':>8}{'epochs':>8}{'return':>9}  inside per seed")
    for env, steps in zip(args.envs, args.timesteps, strict=True):
        for name, cls, kwargs in RULES:
            runs = [run(cls, env, seed, steps, **kwargs) for seed in range(args.seeds)]
            results[f"{env} {name}"] = runs
            args.out.write_text(json.dumps(results, indent=1) + "\n")
            mean = {key: float(np.mean([r[key] for r in runs])) for key in runs[0]}
            seeds = " ".join(f"{r['inside']:.2f}" for r in runs)
            print(
                f"{env:15}{name:25}{mean['inside']:8.2f}{mean['below']:8.2f}{mean['above']:8.2f}{mean['kl_95']:8.4f}"
                f"{mean['epochs']:8.1f}{mean['return']:9.1f}  {seeds}",
                flush=True,
            )


if __name__ == "__main__":
    main()

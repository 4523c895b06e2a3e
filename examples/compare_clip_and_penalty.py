"""Compare PPO-Clip with PPO-Penalty on CartPole-v1, and ask whether adaptive beta holds the KL divergence.

``python examples/compare_clip_and_penalty.py`` trains three models, each for 100,000 steps in 4 environments: PPO-Clip,
PPO-Penalty as it is by default, and PPO-Penalty with the plain rule of the PPO paper (arXiv:1707.06347, section 4). The
KL divergence is held if it lies in the band [target / 1.5, 1.5 target], inside which that rule leaves beta alone. One
seed shows the mechanism; it does not rank the algorithms.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import TrustRegionRecorder
from sb3_ppo_variants.plots import plot_trust_region
from sb3_ppo_variants.trust_region_log import Table, read_trust_region

TARGET_KL = 0.01
PAPER = "PPO-Penalty, paper's rule"
PAPER_RULE = {"adapt_after": "update", "max_kl": None, "adaptation_factor": 2.0, "kl_direction": "forward"}
RUNS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "PPO-Clip": (PPOClip, {}),
    "PPO-Penalty": (PPOPenalty, {"target_kl": TARGET_KL}),
    PAPER: (PPOPenalty, {"target_kl": TARGET_KL, **PAPER_RULE}),
}


def share_in_band(kl: Any) -> float:
    """Return the share of updates whose KL divergence lies in the band, after the first fifth of them.

    :param kl: of every update, in order, shape (n_updates,)
    """
    later = kl[len(kl) // 5 :]
    return float(((later >= TARGET_KL / 1.5) & (later <= 1.5 * TARGET_KL)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=100_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    parser.add_argument("--figure", type=Path, help="file to draw the three runs into, .png, .svg or .pdf")
    arguments = parser.parse_args()

    print(f"{'':26}{'return':>18}{'KL: median':>12}{'95 %':>9}{'in band':>10}{'beta':>9}")
    held: dict[str, float] = {}
    runs: dict[str, list[Table]] = {}
    for name, (algorithm, kwargs) in RUNS.items():
        env = make_vec_env("CartPole-v1", n_envs=4, seed=arguments.seed)
        model = algorithm("MlpPolicy", env, n_steps=512, seed=arguments.seed, **kwargs)
        with tempfile.TemporaryDirectory() as folder:
            model.learn(arguments.timesteps, callback=TrustRegionRecorder(Path(folder) / "run.csv"))
            runs[name] = [read_trust_region(Path(folder) / "run.csv").updates]
        history = runs[name][0]["kl_divergence"]
        evaluation_env = make_vec_env("CartPole-v1", seed=1000 + arguments.seed)
        mean, std = evaluate_policy(model, evaluation_env, n_eval_episodes=20)
        median, high = np.quantile(history[len(history) // 5 :], [0.5, 0.95])
        beta = f"{model.beta:.3f}" if hasattr(model, "beta") else "-"
        result = f"{mean:.1f} +/- {std:.1f}"
        held[name] = share_in_band(history)
        print(f"{name:26}{result:>18}{median:12.4f}{high:9.4f}{held[name]:10.0%}{beta:>9}")

    band = f"[{TARGET_KL / 1.5:.4f}, {1.5 * TARGET_KL:.4f}]"
    print(f"Return: 20 episodes, deterministic. KL: updates after the first fifth, in nats per state; band {band}.")
    question = f"Does adaptive beta hold the KL near {TARGET_KL}?"
    print(f"{question} In {held['PPO-Penalty']:.0%} of the updates; with the paper's plain rule in {held[PAPER]:.0%}.")
    print(f"PPO-Clip, which does not aim at it, is there in {held['PPO-Clip']:.0%}.")
    if arguments.figure:
        plot_trust_region(runs, title="CartPole-v1: clip, penalty and the paper's rule").savefig(arguments.figure)


if __name__ == "__main__":
    main()

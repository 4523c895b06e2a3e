"""Does ClipRangeFromClipFraction hold the clip fraction, and what does it do to the return.

    python benchmarks/clip_fraction.py

"inside" is the share of updates with a clip fraction in [target / 1.5, 1.5 target], "clip fraction" their mean, both
without the first 20 % of the updates; "return" is the mean over the last 100 episodes of training. All are means over
the seeds.
"""

import argparse
from typing import Any

import numpy as np
from recorded_runs import one_quiet_thread, record_updates
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip
from sb3_ppo_variants.callbacks import ClipRangeFromClipFraction

TARGET = 0.2
SETTINGS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"n_steps": 512},
    "Pendulum-v1": {"n_steps": 512, "learning_rate": 1e-3, "gamma": 0.9},
}


def run(env: str, factor: float | None, seed: int, steps: int) -> list[float]:
    """Train once.

    :param factor: of the callback; None for no callback
    :return: share of updates inside the band, mean clip fraction, last clip range, last return
    """
    callbacks = [] if factor is None else [ClipRangeFromClipFraction(TARGET, factor=factor)]
    model = PPOClip("MlpPolicy", make_vec_env(env, 4, seed=seed), seed=seed, device="cpu", **SETTINGS[env])
    updates = record_updates(model, steps, *callbacks)
    fractions = updates["clip_fraction"][len(updates["update"]) // 5 :]
    inside = np.mean((fractions >= TARGET / 1.5) & (fractions <= TARGET * 1.5))
    return [inside, fractions.mean(), updates["clip_range"][-1], updates["ep_rew_mean"][-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", nargs="+", type=float, default=[1.1, 1.3, 1.5])
    parser.add_argument("--timesteps", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to n - 1")
    args = parser.parse_args()
    one_quiet_thread()
    print("| environment | factor | inside | clip fraction | last epsilon | return |\n|---|---|---|---|---|---|")
    for env in SETTINGS:
        for factor in [None, *args.factors]:
            results = [run(env, factor, seed, args.timesteps) for seed in range(args.seeds)]
            inside, fraction, epsilon, learned = np.mean(results, axis=0)
            name = "no callback, epsilon 0.2" if factor is None else f"{factor:g}"
            print(f"| {env} | {name} | {inside:.2f} | {fraction:.2f} | {epsilon:.3f} | {learned:.0f} |", flush=True)


if __name__ == "__main__":
    main()

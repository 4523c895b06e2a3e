"""Which learning rates does PPOAdaptiveLR use? Those of all optimiser steps at its defaults, by epoch of the update.

    python benchmarks/adaptive_rates.py --jobs 2 --out adaptive_rates.jsonl
    python benchmarks/adaptive_rates.py --table --out adaptive_rates.jsonl      # of those with --steps that are there

SB3's defaults, one environment, as in docs/results.md#the-adaptive-learning-rate. One line per run: percentiles of the
rate, its mean over the steps, over those of the first and of the last epoch, and the share of the steps at the bounds.
A run that is in the file already is not repeated.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from recorded_runs import Row, read_rows, run_missing

from sb3_ppo_variants import PPOAdaptiveLR

ENVS = [
    *("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0", "LunarLander-v3"),
    *("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"),
]


class Recorded(PPOAdaptiveLR):
    """Keeps the rate of every part of an epoch after which the rate may move."""

    def learn(self, *args: Any, **kwargs: Any) -> Any:
        self.rates: list[tuple[int, float]] = []
        return super().learn(*args, **kwargs)

    def after_check(self, kl: float, progress: float) -> None:
        epoch = int(np.ceil(progress * self.n_epochs - 1e-9))
        self.rates.append((epoch, self.policy.optimizer.param_groups[0]["lr"]))  # of the steps until now
        super().after_check(kl, progress)


def run(env: str, seed: int, steps: int) -> Row:
    """Train once."""
    model = Recorded("MlpPolicy", env, seed=seed, device="cpu").learn(steps)
    epochs, rates = np.array(model.rates).T
    low, high = model.learning_rate_bounds
    percentiles = np.percentile(rates, [5, 50, 95])
    return {
        "percentiles_5_50_95": [float(f"{p:.2e}") for p in percentiles],
        "mean": float(f"{rates.mean():.2e}"),
        "mean_first_epoch": float(f"{rates[epochs == 1].mean():.2e}"),
        "mean_last_epoch": float(f"{rates[epochs == model.n_epochs].mean():.2e}"),
        "at_lower_bound": round(float((rates <= low * 1.01).mean()), 3),
        "at_upper_bound": round(float((rates >= high * 0.99).mean()), 3),
    }


def table(rows: list[Row]) -> Iterator[str]:
    """Write the means over the seeds as a Markdown table."""
    yield "| environment | median | 5 % to 95 % | mean | first epoch | last epoch | at the lower bound | at the upper |"
    yield "|---|---|---|---|---|---|---|---|"
    for env in dict.fromkeys(row["env"] for row in rows):
        found = [row for row in rows if row["env"] == env]
        low, median, high = np.mean([row["percentiles_5_50_95"] for row in found], axis=0)
        means = (np.mean([row[key] for row in found]) for key in ("mean", "mean_first_epoch", "mean_last_epoch"))
        shares = (np.mean([row[key] for row in found]) for key in ("at_lower_bound", "at_upper_bound"))
        columns = [
            f"{median:.1e}",
            f"{low:.1e} to {high:.1e}",
            *map("{:.1e}".format, means),
            *map("{:.0%}".format, shares),
        ]
        yield f"| {env} | {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=ENVS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cells = [{"env": env, "seed": seed, "steps": options.steps} for env in options.envs for seed in options.seeds]
    rows = read_rows(options.out) if options.table else run_missing(options.out, cells, run, options.jobs)
    print("\n".join(table([row for row in rows if row["steps"] == options.steps])))


if __name__ == "__main__":
    main()

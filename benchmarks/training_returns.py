"""What the exploring policy earned in the runs of a comparison: the returns of training, beside those of evaluation.

    python benchmarks/training_returns.py FOLDER ... --out training_returns.csv

Reads folders of ``sb3-ppo-variants compare``, trains nothing. Per run: the mean of ``rollout/ep_rew_mean`` over all
updates, and over the last quarter of them. Prints how likely a run of each arm is to be ahead of one of the baseline
(rliable's probability of improvement, 95 % stratified bootstrap intervals), on the environments that all arms have runs
on, and writes every run's numbers. Returns are compared as they are: a tie is a difference of up to 0.001, not of 0.001
of the way from random actions to the best as in the reports.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from sb3_ppo_variants.compare.cells import RANDOM_POLICY
from sb3_ppo_variants.compare.report.statistics import probability_of_improvement
from sb3_ppo_variants.compare.report.traces import read_traces
from sb3_ppo_variants.compare.run.results import ResultsFolder, merge

SCORES = ("over_training", "last_quarter")


def read_runs(folders: list[Path], seeds: int) -> tuple[str, pd.DataFrame]:
    """Return the label of the baseline, and a row for each run."""
    merged = merge([ResultsFolder(folder) for folder in folders])
    rows = []
    for cell, result in merged.results.items():
        if cell.arm != RANDOM_POLICY and cell.seed < seeds:
            (trace,) = read_traces([result])
            returns = trace["ep_rew_mean"]
            last = returns[-max(1, len(returns) // 4) :]
            scores = [round(float(np.nanmean(part)), 3) for part in (returns, last)]
            rows.append([cell.env, cell.arm, cell.seed, *scores])
    return merged.plan.baseline, pd.DataFrame(rows, columns=["env", "arm", "seed", *SCORES])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to n - 1 (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    baseline, runs = read_runs(arguments.folders, arguments.seeds)
    runs.sort_values(["env", "arm", "seed"]).to_csv(arguments.out, index=False)
    common = set.intersection(*(set(own) for _, own in runs.groupby("arm")["env"]))
    runs = runs[runs["env"].isin(common)]
    for score in SCORES:
        tables = {arm: own.pivot_table(score, "seed", "env").dropna() for arm, own in runs.groupby("arm")}
        better = probability_of_improvement({arm: table.to_numpy() for arm, table in tables.items()}, baseline)
        for arm, p in better.items():
            print(f"{score:14} {arm:18} P(above {baseline}) {p.value:.2f} [{p.low:.2f}, {p.high:.2f}]")


if __name__ == "__main__":
    main()

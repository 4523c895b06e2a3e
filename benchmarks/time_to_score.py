"""What a user waits for: seconds and steps to 90 % of the baseline's final score, as a ratio with an interval.

    python benchmarks/time_to_score.py FOLDER --out time_to_score.csv

Reads a folder of ``sb3-ppo-variants compare``, trains nothing. Per run: what was spent until the first evaluation that
has gone 90 % of the way from the random policy's score to the baseline's final score, as the reports have it; a run
that never does counts with all it spent. Prints, for each arm, the medians over runs added up over the environments,
and their ratio to the baseline's with its 95 % interval (bootstrap over the runs of each environment, 2,000 samples),
and writes every run's numbers.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.time_to_score import CLOCKS, spent_until, target_score
from sb3_ppo_variants.compare.run.results import ResultsFolder, merge

SHARE = 0.9


def read_runs(folder: Path) -> tuple[str, pd.DataFrame]:
    """Return the label of the baseline, and a row for each run."""
    merged = merge([ResultsFolder(folder)])
    comparison = Comparison(merged.plan, merged.results, {}, {})
    rows = []
    for env in comparison.envs:
        target = target_score(comparison, env, SHARE)
        for arm in comparison.arms if target is not None else []:
            spent = [spent_until(comparison, arm, env, target or 0.0, clock) for clock in CLOCKS]
            for place, result in enumerate(comparison.of(arm, env)):
                last = result["evaluations"][-1]
                found = [own[place] if np.isfinite(own[place]) else last[clock] for own, clock in zip(spent, CLOCKS)]
                rows.append([env, arm, bool(np.isfinite(spent[0][place])), *np.round(found, 3)])
    return comparison.baseline, pd.DataFrame(rows, columns=["env", "arm", "reached", *CLOCKS])


def resampled(runs: pd.DataFrame, clock: str, generator: np.random.Generator | None) -> float:
    """Add up the medians over runs, of a bootstrap sample if there is a generator."""
    of_envs = [own[clock].to_numpy() for _, own in runs.groupby("env")]
    drawn = of_envs if generator is None else [generator.choice(own, len(own)) for own in of_envs]
    return float(sum(np.median(own) for own in drawn))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    baseline, runs = read_runs(arguments.folder)
    runs.to_csv(arguments.out, index=False)
    base = runs[runs["arm"] == baseline]
    for clock, unit in CLOCKS.items():
        for arm, own in runs[runs["arm"] != baseline].groupby("arm"):
            generator = np.random.default_rng(0)
            ratios = [resampled(own, clock, generator) / resampled(base, clock, generator) for _ in range(2000)]
            low, high = np.quantile(ratios, [0.025, 0.975])
            of_arm, of_base = (resampled(table, clock, None) for table in (own, base))
            sums = f"{of_arm:9.1f}, {baseline} {of_base:9.1f}"
            print(f"{unit:12} {arm:18} {sums}, {of_arm / of_base:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()

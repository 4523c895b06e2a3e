r"""How likely a run is to score higher than one of the baseline, from the raw scores of several comparisons.

    python benchmarks/better_scores.py docs/results/defaults/scores.csv docs/results/adaptive_lr/scores.csv \
        docs/results/adaptive_lr/seeds_0_to_4.csv docs/results/adaptive_lr/with_the_bound.csv

Reads files ``scores.csv`` of ``sb3-ppo-variants compare``, trains nothing. Of each algorithm those seeds count that
the baseline has, too. Prints the probability of improvement with its 95 % stratified bootstrap interval, as in the
reports, of the final score and of the mean over the training, and both scores per environment.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from sb3_ppo_variants.compare.cells import RANDOM_POLICY
from sb3_ppo_variants.compare.report.scores import make_scores
from sb3_ppo_variants.compare.report.statistics import probability_of_improvement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--baseline", default="ppo")
    parser.add_argument("--without", nargs="+", default=[], metavar="ENV", help="environments that are left out")
    arguments = parser.parse_args()
    episodes = pd.concat([pd.read_csv(file) for file in arguments.files]).drop_duplicates()
    episodes = episodes[~episodes["env"].isin(arguments.without)]
    arms = [arm for arm in episodes["algo"].unique() if arm != RANDOM_POLICY]
    scores = make_scores(episodes, arms, list(episodes["env"].unique()))
    for measure, tables in (("final score", scores.final), ("mean over the training", scores.area)):
        for arm in arms:
            if arm != arguments.baseline:
                own, base = (table.dropna() for table in tables[arm].align(tables[arguments.baseline], join="inner"))
                pair = {
                    label: np.stack([scores.references[env].normalise(table[env].to_numpy()) for env in table], axis=1)
                    for label, table in ((arm, own), (arguments.baseline, base))
                }
                (p,) = probability_of_improvement(pair, arguments.baseline).values()
                print(f"{measure}: {arm}, {len(own)} seeds: P {p.value:.2f} [{p.low:.2f}, {p.high:.2f}]")
        print(pd.DataFrame({arm: table.mean() for arm, table in tables.items()}).round(1).to_string(), end="\n\n")


if __name__ == "__main__":
    main()

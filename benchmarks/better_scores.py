r"""How likely a run is to score higher than one of the baseline, from the raw scores of several comparisons.

    python benchmarks/better_scores.py docs/results/defaults/scores.csv docs/results/adaptive_lr/scores.csv \
        docs/results/adaptive_lr/seeds_0_to_4.csv docs/results/adaptive_lr/with_the_bound.csv

Reads files ``scores.csv`` of ``sb3-ppo-variants compare``, trains nothing. Of each algorithm those seeds count that
the baseline has on the same environments, too. Environments on which nothing is clearly better than random actions are
left out. Files may overlap, if they agree. Prints the probability of improvement with its 95 % stratified bootstrap
interval, as in the reports, of the final score and of the mean over the training; then, for each environment, the
mean, the difference to the baseline and the probability of improvement there, with their intervals.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sb3_ppo_variants.compare.cells import RANDOM_POLICY
from sb3_ppo_variants.compare.report.scores import make_scores
from sb3_ppo_variants.compare.report.statistics import Estimate, mean, mean_difference, probability_of_improvement

Tables = dict[str, pd.DataFrame]

EPISODE = ["algo", "env", "seed", "timesteps", "episode"]
"""What an episode of evaluation is known by."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--baseline", default="ppo")
    parser.add_argument("--without", nargs="+", default=[], metavar="ENV", help="environments that are left out")
    arguments = parser.parse_args()
    try:
        episodes = read_episodes(arguments.files)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    episodes = episodes[~episodes["env"].isin(arguments.without)]
    arms = [arm for arm in episodes["algo"].unique() if arm != RANDOM_POLICY]
    scores = make_scores(episodes, arms, list(episodes["env"].unique()))
    if arguments.baseline not in scores.final:
        raise SystemExit(f"error: no scores of --baseline {arguments.baseline}; there are {', '.join(scores.final)}")
    left_out = [env for env in episodes["env"].unique() if env not in scores.references]
    if left_out:
        why = "nothing is clearly better than random actions there, or these have no result"
        print(f"left out, as {why}: {', '.join(left_out)}")
    for measure, every in (("final score", scores.final), ("mean over the training", scores.area)):
        tables = {arm: table[[env for env in table if env in scores.references]] for arm, table in every.items()}
        normalised = {
            arm: table.apply(lambda column: scores.references[column.name].normalise(column))
            for arm, table in tables.items()
        }
        for arm in tables:
            if arm != arguments.baseline:
                compare(measure, tables, normalised, arm, arguments.baseline)
        print(f"\n{measure}, {arguments.baseline}:")
        for env, column in tables[arguments.baseline].items():
            print(f"{env:26}{written(mean(column.dropna().to_numpy()), 1)}")
        print()


def read_episodes(files: Sequence[Path]) -> pd.DataFrame:
    """Put the episodes of files together.

    :param files: ``scores.csv`` of comparisons
    :raises ValueError: if two files have different results of one run
    """
    episodes = pd.concat([pd.read_csv(file) for file in files]).drop_duplicates()
    twice = episodes[episodes.duplicated(EPISODE)].drop_duplicates(["algo", "env", "seed"])
    if len(twice):
        runs = "; ".join(f"{run.algo} on {run.env}, seed {run.seed}" for run in twice.head(3).itertuples())
        raise ValueError(
            f"the files must agree on every run, but {len(twice)} have different results in them ({runs}); leave one "
            "file out, or give one of the algorithms another name in it"
        )
    return episodes


def compare(measure: str, tables: Tables, normalised: Tables, arm: str, baseline: str) -> None:
    """Print how an arm does against the baseline, over all environments and on each.

    :param measure: what the scores are
    :param tables: of scores, one row per seed and one column per environment, by arm
    :param normalised: the same scores, 0 for random and 1 for the best mean
    :param arm: its label
    :param baseline: label of the other
    """
    own, base = normalised[arm].align(normalised[baseline], join="inner")
    complete = own.notna().all(axis="columns") & base.notna().all(axis="columns")
    own, base = own[complete], base[complete]
    if own.empty:
        print(f"\n{measure}: {arm} and {baseline} have no seed in common that has all of their environments")
        return
    print(f"\n{measure}: {arm}, {len(own)} seeds: P {better(arm, own, baseline, base)}")
    for env in own:
        its, others = (tables[name].loc[own.index, env].to_numpy() for name in (arm, baseline))
        apart = written(mean_difference(its, others), 1)
        p = better(arm, own[[env]], baseline, base[[env]])
        print(f"{env:26}{written(mean(its), 1):28} difference {apart:28} P {p}")


def better(arm: str, own: pd.DataFrame, baseline: str, base: pd.DataFrame) -> str:
    """Write the probability that a run of the first is above one of the second."""
    (p,) = probability_of_improvement({arm: own.to_numpy(), baseline: base.to_numpy()}, baseline).values()
    return written(p, 2)


def written(estimate: Estimate, decimals: int) -> str:
    """Write an estimate with its interval."""
    return "{:,.{d}f} [{:,.{d}f}, {:,.{d}f}]".format(estimate.value, estimate.low, estimate.high, d=decimals)


if __name__ == "__main__":
    main()

"""The parts of the report about rewards."""

import numpy as np
import pandas as pd

from sb3_ppo_variants.compare.cells import file_name
from sb3_ppo_variants.compare.presets import PRESETS
from sb3_ppo_variants.compare.report import figures, statistics
from sb3_ppo_variants.compare.report.blocks import Block, Figures, Section, Table, Text, estimate, number, span
from sb3_ppo_variants.compare.report.claims import joined
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.picture import Picture
from sb3_ppo_variants.compare.report.scores import Matrix, Reference, final_episodes
from sb3_ppo_variants.compare.report.statistics import FEW_RUNS, Estimate
from sb3_ppo_variants.compare.report.time_to_score import time_table

KINDS = {"final": "final score", "area": "mean score over the training"}
CURVE_POINTS = 21
WRONGLY_MARKED = "12 % with 5 runs each, 8 % with 10 and 6 % with 20"
"""Share of the intervals of a difference of means that leave 0 out where there is none, 5 % if they were exact."""
NOTHING_IN_COMMON = Text(
    "There is no environment on which all algorithms have a run and one is clearly better than random actions."
)


def improvements(comparison: Comparison, kind: str) -> dict[str, Estimate]:
    """Return each arm's probability of improvement over the baseline, as far as there are common environments.

    :param comparison: all results
    :param kind: ``"final"`` or ``"area"``
    """
    matrices = comparison.matrices(kind)
    return (
        statistics.probability_of_improvement(matrices, comparison.baseline) if comparison.baseline in matrices else {}
    )


def aggregate_section(comparison: Comparison) -> Section:
    """Put all environments together: aggregates, probability of improvement, performance profiles.

    :param comparison: all results
    """
    section = Section(f"{comparison.together().capitalize()} together")
    if len(comparison.envs) == 1:
        return section
    envs = comparison.scores.common_envs()
    if not envs:
        section.blocks.append(NOTHING_IN_COMMON)
        return section
    complete = comparison.matrices("final")
    if incomplete := [arm for arm in comparison.arms if arm not in complete]:
        nobody = "" if comparison.baseline in complete else " There is nothing to compare with."
        section.blocks.append(
            Text(f"Left out, as no seed has a score on each of {joined(envs)}: {joined(incomplete)}.{nobody}")
        )
    if comparison.baseline not in complete:
        return section
    section.blocks.append(
        Text(
            f"{scales(comparison, 'the best algorithm')} Intervals are 95 % stratified bootstrap intervals over runs. "
            "The IQM, interquartile mean, is the mean of the middle half of all runs, which single runs hardly move. "
            "The optimality gap is how far runs fall short of 1 on average, so that less is better."
        )
    )
    # Of one or two environments the mean and the median say what the IQM says.
    shown = [name for name in statistics.AGGREGATES if len(envs) > 2 or name not in ("median", "mean")]
    pictures: dict[str, Picture] = {}
    for kind, name in KINDS.items():
        matrices = comparison.matrices(kind)
        aggregates = {
            arm: {name: of_arm[name] for name in shown} for arm, of_arm in statistics.aggregate(matrices).items()
        }
        better = improvements(comparison, kind)
        rows = [
            [arm, *(estimate(value) for value in of_arm.values()), estimate(better.get(arm)), str(len(matrices[arm]))]
            for arm, of_arm in aggregates.items()
        ]
        header = ["", *shown, f"P(better than {comparison.baseline})", "runs"]
        section.blocks.append(Table(header, rows, f"Normalised {name}: estimate [95 % interval]"))
        if kind == "final":
            pictures = _aggregate_pictures(comparison, aggregates, better)
    section.blocks.append(Figures(pictures, "Normalised final scores, and scores during the training, 95 % intervals"))
    return section


def scales(comparison: Comparison, best: str) -> str:
    """Say what is 0 and 1 in each environment.

    :param comparison: all results
    :param best: whose mean final score is 1, in words
    """
    shown = [f"{env}: {span(*ends)}" for env, ends in comparison.scores.references.items()]
    given = [env for env in comparison.scores.references if env in comparison.given]
    measured = f"the random policy's mean reward is 0, the mean final score of {best} is 1"
    if len(given) == len(shown):
        measured = "0 and 1 are as given"
    elif given:
        measured = f"0 and 1 are as given for {', '.join(given)}; elsewhere {measured}"
    return f"Scores are normalised per environment: {measured} ({'; '.join(shown)})."


def scale_in_short(comparison: Comparison) -> str:
    """Say what is 0 and 1 of the scores of all environments together, in the few words that an axis has room for.

    :param comparison: all results
    """
    envs = comparison.scores.common_envs()
    given = [env for env in envs if env in comparison.given]
    if not given:
        return "0 random policy, 1 best algorithm"
    return "0 and 1 as given" if len(given) == len(envs) else "0 and 1 as given or measured"


def _aggregate_pictures(
    comparison: Comparison, aggregates: dict[str, dict[str, Estimate]], better: dict[str, Estimate]
) -> dict[str, Picture]:
    matrices = comparison.matrices("final")
    style = comparison.style
    thresholds = np.linspace(0, max(1.0, *(float(matrix.max()) for matrix in matrices.values())), 41)
    shares, curves = _normalised_curves(comparison)
    pictures = {
        "aggregates": figures.aggregate_intervals(aggregates, style, scale_in_short(comparison)),
        "profiles": figures.profiles(statistics.performance_profile(matrices, thresholds), thresholds, style),
        "sample_efficiency": figures.normalised_curves(
            comparison.together().capitalize(), statistics.iqm_curve(curves), shares, style
        ),
    }
    if better:
        pictures["improvement"] = figures.improvement(better, comparison.baseline, style)
    return pictures


def _normalised_curves(comparison: Comparison) -> tuple[Matrix, dict[str, Matrix]]:
    """Return shares of the training and, by arm, curves of the complete seeds, shape (n_seeds, n_envs, n_points)."""
    shares = np.linspace(0, 1, CURVE_POINTS)
    envs, curves = comparison.scores.common_envs(), comparison.scores.curves
    stacked = {}
    for arm in comparison.matrices("final"):
        seeds = comparison.scores.final[arm].reindex(columns=envs).dropna().index
        of_envs = [_interpolated(curves[arm][env][seeds], comparison.scores.references[env], shares) for env in envs]
        stacked[arm] = np.stack(of_envs, axis=1)
    return shares, stacked


def _interpolated(curves: pd.DataFrame, reference: Reference, shares: Matrix) -> Matrix:
    steps = curves.index.to_numpy(float)
    return np.array([reference.normalise(np.interp(shares * steps[-1], steps, curves[seed])) for seed in curves])


def paper_section(comparison: Comparison) -> Section:
    """Put a paper's average normalised scores beside those measured, if the comparison is of a preset that has them.

    :param comparison: all results
    """
    preset = PRESETS.get(comparison.plan.preset)
    section = Section("Beside the paper's table")
    matrices = comparison.matrices("final")
    if preset is not None and preset.paper_scores and matrices:
        aggregates = statistics.aggregate(matrices)
        rows = [
            [arm, f"{score:.2f}", estimate(aggregates[arm]["mean"]) if arm in aggregates else "–"]
            for arm, score in preset.paper_scores.items()
        ]
        n_envs = len(comparison.scores.common_envs())
        caption = f"Average normalised score; here over {n_envs} environments, mean [95 % interval]"
        section.blocks.append(Table(["", "paper", "here"], rows, caption))
    return section


def learning_section(comparison: Comparison) -> Section:
    """Show the learning curves.

    :param comparison: all results
    """
    pictures = {}
    style = comparison.style
    for env in comparison.envs:
        curves = {}
        for arm in comparison.arms:
            frame = comparison.scores.curves[arm].get(env)
            if frame is not None:
                seeds = frame.to_numpy(float).T
                curves[arm] = figures.Learning(frame.index.to_numpy(float), statistics.mean_curve(seeds), seeds)
        picture = figures.learning_curves(env, curves, comparison.random_score(env), style)
        pictures[f"learning_{file_name(env)}"] = picture
    caption = "Reward per episode in evaluation: mean over seeds with its 95 % interval; a faint line is a seed"
    return Section("Learning curves", [Figures(pictures, caption)])


def environment_section(comparison: Comparison) -> Section:
    """Show each environment by itself: scores and differences from the baseline.

    :param comparison: all results
    """
    blocks: list[Block] = [
        *(_environment_table(comparison, env) for env in comparison.envs),
        Text(
            "The difference is that of the means over seeds. A * marks an interval without 0 of at least "
            f"{FEW_RUNS} runs on both sides. Of equal algorithms with normal scores {WRONGLY_MARKED} are marked "
            "all the same: intervals of few runs are too narrow. "
            "The spread is the standard deviation of single episodes within a run, averaged over runs."
        ),
    ]
    return Section("Environment by environment", blocks)


def _environment_table(comparison: Comparison, env: str) -> Table:
    rows = []
    base = {kind: comparison.raw(kind, comparison.baseline, env) for kind in KINDS}
    for arm in comparison.arms:
        raw = {kind: comparison.raw(kind, arm, env) for kind in KINDS}
        if not len(raw["final"]):
            continue
        row = [arm, str(len(raw["final"])), number(_episode_spread(comparison, arm, env))]
        for kind in KINDS:
            row.append(estimate(statistics.mean(raw[kind])))
            row.append(_difference(raw[kind], base[kind]) if arm != comparison.baseline else "–")
        rows.append(row)
    versus = f"difference from {comparison.baseline}"
    header = ["", "runs", "spread", "final score", versus, "mean over the training", versus]
    budget = comparison.plan.budgets[env]
    return Table(header, rows, f"{env}, {budget.n_timesteps:,} steps: mean over seeds [95 % interval]")


def _difference(values: Matrix, base: Matrix) -> str:
    if not len(base):
        return "–"
    found = statistics.mean_difference(values, base)
    sure = found.excludes(0) and min(len(values), len(base)) >= FEW_RUNS
    return estimate(found) + (" *" if sure else "")


def _episode_spread(comparison: Comparison, arm: str, env: str) -> float:
    late = final_episodes(comparison.episodes, arm, env)
    return float(late.groupby("seed")["reward"].std(ddof=0).mean())


def efficiency_section(comparison: Comparison) -> Section:
    """Tell how many steps and seconds each arm needs to reach fractions of the baseline's final score.

    :param comparison: all results
    """
    tables = [table for env in comparison.envs if (table := time_table(comparison, env)) is not None]
    note = Text(
        "The first evaluation at which a run's mean reward reaches the fraction of the way from "
        f"{comparison.zero_in_words()} to the mean final score of {comparison.baseline}: median over runs [runs that "
        "reach it at all]. A median over runs of which half or more never reach it is given as “not reached”. Seconds "
        "are those of training, evaluations not counted."
    )
    return Section("Time to a score", [note, *tables] if tables else [])


__all__ = ["aggregate_section", "efficiency_section", "environment_section", "improvements"]
__all__ += ["KINDS", "NOTHING_IN_COMMON", "learning_section", "paper_section", "scales"]

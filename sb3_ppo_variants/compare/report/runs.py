"""The parts of the report about what happened within the runs: trust region, value function, time, memory."""

from operator import itemgetter

import numpy as np

from sb3_ppo_variants.compare.cells import Cell, file_name
from sb3_ppo_variants.compare.report import figures, statistics, traces
from sb3_ppo_variants.compare.report.blocks import Block, Figures, Points, Section, Table, Text, estimate, number
from sb3_ppo_variants.compare.report.claims import joined, kl_claim
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.picture import Picture
from sb3_ppo_variants.compare.report.scores import Matrix
from sb3_ppo_variants.compare.report.traces import KL_TOLERANCE, Condense, Trace
from sb3_ppo_variants.trust_region_log import KL_MEASURES

TRUST_REGION_PANELS: list[figures.Panel] = [
    ("KL divergence, nats per state", traces.kl),
    ("exact KL divergence / target", traces.kl_over_target),
    ("clip fraction", traces.clip_fraction),
    ("beta", traces.column("beta")),
    ("epsilon (clip range)", traces.column("clip_range")),
    ("adaptive learning rate", traces.adaptive_learning_rate),
]
VALUE_PANELS: list[figures.Panel] = [
    ("explained variance", traces.column("explained_variance")),
    ("value loss", traces.column("value_loss")),
]
TRUST_REGION_COLUMNS: dict[str, Condense] = {
    "median KL": traces.median_kl,
    "target": traces.last("target_kl"),
    "in the band": traces.share_in_band,
    "above it": traces.share_above_band,
    "clip fraction": traces.mean_clip_fraction,
    "beta at the end": traces.last("beta"),
    "epsilon at the end": traces.last("clip_range"),
    "learning rate at the end": traces.condensed(traces.adaptive_learning_rate, itemgetter(-1)),
}
SHARES = ("in the band", "above it", "clip fraction")
COSTS = ("train_seconds", "cpu_seconds", "peak_memory_mib")


def trust_region_section(comparison: Comparison) -> Section:
    """Show how far updates moved the policy, and what held them back.

    :param comparison: all results
    """
    blocks: list[Block] = [
        Text(
            "How far each update moved the policy. The exact KL divergence is that of all states of the rollout, after "
            f"the update; other measures are not the same number. Logged is the {_measures(comparison)}."
        ),
        Points(kl_sentences(comparison)),
        Figures(
            _update_pictures(comparison, "trust_region", TRUST_REGION_PANELS),
            "Median over seeds and range of all updates; the grey band is target / 1.5 to 1.5 × target",
        ),
        *(table for env in comparison.envs if (table := _trust_region_table(comparison, env)) is not None),
    ]
    return Section("Trust region", blocks)


def kl_sentences(comparison: Comparison) -> list[str]:
    """Say for each arm with a target whether the KL divergence stayed near it; of few runs nothing is said.

    :param comparison: all results
    """
    sentences: list[str] = []
    if comparison.few_runs:
        return sentences
    for env in comparison.envs:
        for arm in comparison.arms:
            runs = traces.read_traces(comparison.of(arm, env))
            ratios = traces.per_run(runs, traces.median_kl_over_target)
            if len(ratios):
                within, above = (
                    statistics.mean(traces.per_run(runs, share))
                    for share in (traces.share_in_band, traces.share_above_band)
                )
                sentences.append(kl_claim(arm, env, within, above, statistics.mean(ratios), KL_TOLERANCE))
    return sentences


def value_section(comparison: Comparison) -> Section:
    """Show how well the value function predicts returns.

    :param comparison: all results
    """
    caption = "Median over seeds and range of all updates"
    rows = []
    for env in comparison.envs:
        for arm in comparison.arms:
            runs = traces.read_traces(comparison.of(arm, env))
            cells = [_mean_of(runs, traces.average(name)) for name in ("explained_variance", "value_loss")]
            if any(cell != "–" for cell in cells):
                rows.append([env, arm, *cells])
    note = (
        "The explained variance of returns by the value function, 1 at best, and the squared error of the value "
        "function, in units of the reward it is trained on, averaged over all updates."
    )
    table = Table(
        ["", "algorithm", "explained variance", "value loss"], rows, "Mean over seeds [95 % interval]", folded=True
    )
    pictures = _update_pictures(comparison, "value", VALUE_PANELS)
    return Section("Value function", [Text(note), Figures(pictures, caption), table])


def cost_section(comparison: Comparison) -> Section:
    """Compare time and memory.

    :param comparison: all results
    """
    note = (
        "Time is that of training alone, evaluations not counted, on one PyTorch thread. Wall-clock time depends on "
        "what else the machine does, such as other runs at the same time; processor time hardly does. Peak memory is "
        "the largest resident memory of the run's process, of which Python and the libraries take the larger part."
    )
    tables = [_cost_table(comparison, env) for env in comparison.envs]
    return Section("Time and memory", [Text(note), *tables])


def processor_time(comparison: Comparison, arm: str) -> Matrix:
    """Add up the processor time over the environments that all arms share, for each complete seed.

    :param comparison: all results
    :param arm: its label
    :return: shape (n_complete_seeds,)
    """
    envs = [env for env in comparison.envs if all(len(comparison.raw("final", a, env)) for a in comparison.arms)]
    seeds = sorted({cell.seed for cell in comparison.results if cell.arm == arm})
    rows = [[comparison.results.get(Cell(arm, env, seed)) for env in envs] for seed in seeds]
    complete = [[result["cost"]["cpu_seconds"] for result in row if result] for row in rows if row and all(row)]
    return np.array([sum(row) for row in complete], dtype=float)


def _cost_table(comparison: Comparison, env: str) -> Table:
    steps = comparison.plan.budgets[env].n_timesteps
    results = {arm: comparison.of(arm, env) for arm in comparison.arms}
    costs = {arm: {name: np.array([r["cost"][name] for r in own]) for name in COSTS} for arm, own in results.items()}
    base = costs[comparison.baseline]
    rows = [
        [arm, number(float(np.mean(steps / of_arm["train_seconds"])))]
        + [f"{number(of_arm[name].mean())}{_relative(of_arm[name], base[name], arm, comparison)}" for name in COSTS]
        for arm, of_arm in costs.items()
        if len(of_arm["train_seconds"])
    ]
    header = ["", "steps per second", "wall-clock, s", "processor, s", "peak memory, MiB"]
    return Table(header, rows, f"{env}: mean over seeds [as a multiple of {comparison.baseline}'s]", folded=True)


def _relative(values: Matrix, base: Matrix, arm: str, comparison: Comparison) -> str:
    return "" if arm == comparison.baseline or not len(base) else f" [{values.mean() / base.mean():.2f}]"


def _trust_region_table(comparison: Comparison, env: str) -> Table | None:
    columns: dict[str, list[str]] = {name: [] for name in ("", *TRUST_REGION_COLUMNS)}
    for arm in comparison.arms:
        runs = traces.read_traces(comparison.of(arm, env))
        cells = [_mean_of(runs, condense, name in SHARES) for name, condense in TRUST_REGION_COLUMNS.items()]
        if any(cell != "–" for cell in cells):
            for column, cell in zip(columns.values(), [arm, *cells]):
                column.append(cell)
    logged = {name: column for name, column in columns.items() if set(column) - {"–"}}
    rows = list(zip(*logged.values()))
    return Table(list(logged), rows, f"{env}: mean over seeds [95 % interval]") if rows else None


def _measures(comparison: Comparison) -> str:
    """Say of which arms the KL divergence is known in which way."""
    measured: dict[str, list[str]] = {name: [] for name in KL_MEASURES}
    for arm in comparison.arms:
        runs = [trace for env in comparison.envs for trace in traces.read_traces(comparison.of(arm, env))]
        for name in {found[0] for trace in runs if (found := traces.best_kl(trace))}:
            measured[name].append(arm)
    return "; ".join(f"{KL_MEASURES[name]} of {joined(arms)}" for name, arms in measured.items() if arms)


def _mean_of(runs: list[Trace], condense: Condense, percent: bool = False) -> str:
    values = traces.per_run(runs, condense)
    return estimate(statistics.mean(values) if len(values) else None, percent)


def _update_pictures(comparison: Comparison, name: str, panels: list[figures.Panel]) -> dict[str, Picture]:
    style = comparison.style
    pictures = {}
    for env in comparison.envs:
        runs = {arm: traces.read_traces(comparison.of(arm, env)) for arm in comparison.arms}
        picture = figures.update_traces(env, panels, runs, style)
        if picture is not None:
            pictures[f"{name}_{file_name(env)}"] = picture
    return pictures


__all__ = ["COSTS", "cost_section", "kl_sentences", "processor_time", "trust_region_section", "value_section"]

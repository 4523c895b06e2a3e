"""The parts of the report about what happened within the runs: trust region, value function, time, memory."""

from collections.abc import Callable

import numpy as np

from sb3_ppo_variants.compare.cells import Cell, file_name
from sb3_ppo_variants.compare.report import figures, statistics, traces
from sb3_ppo_variants.compare.report.blocks import Block, Figures, Points, Section, Table, Text, estimate, number
from sb3_ppo_variants.compare.report.claims import kl_claim, ratio_claim
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.picture import Picture
from sb3_ppo_variants.compare.report.scores import Matrix
from sb3_ppo_variants.compare.report.traces import KL_TOLERANCE, Trace
from sb3_ppo_variants.trust_region_log import KL_MEASURES

TRUST_REGION_PANELS: list[figures.Panel] = [
    ("KL divergence, nats per state", lambda trace: found[1] if (found := trace.kl()) else None),
    ("exact KL divergence / target", traces.kl_over_target),
    ("clip fraction", lambda trace: trace.get("clip_fraction")),
    ("beta", lambda trace: trace.get("beta")),
    ("epsilon (clip range)", lambda trace: trace.get("clip_range")),
]
VALUE_PANELS: list[figures.Panel] = [
    ("explained variance", lambda trace: trace.get("explained_variance")),
    ("value loss", lambda trace: trace.get("value_loss")),
]
COSTS = {"train_seconds": "wall-clock time", "cpu_seconds": "processor time", "peak_memory_mib": "peak memory"}


def trust_region_section(comparison: Comparison) -> Section:
    """Show how far updates moved the policy, and what held them back.

    :param comparison: all results
    """
    blocks: list[Block] = [
        Text(
            "How far each update moved the policy. The exact KL divergence is that of all states of the rollout, after "
            "the update; stock algorithms log other measures, which the tables name and which are not the same number."
        ),
        Points(kl_sentences(comparison)),
        Figures(
            _update_pictures(comparison, "trust_region", TRUST_REGION_PANELS),
            "Median over seeds and range of the seeds; the grey band is target / 1.5 to 1.5 × target",
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
            runs = traces.read_traces(comparison.results, arm, env)
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
    caption = "Median over seeds and range of the seeds"
    rows = []
    for env in comparison.envs:
        for arm in comparison.arms:
            runs = traces.read_traces(comparison.results, arm, env)
            cells = [_mean_of(runs, traces.average(name)) for name in ("explained_variance", "value_loss")]
            if any(cell != "–" for cell in cells):
                rows.append([env, arm, *cells])
    note = (
        "The explained variance of returns by the value function, 1 at best, and the squared error of the value "
        "function, in units of the reward it is trained on, averaged over all updates."
    )
    table = Table(["", "algorithm", "explained variance", "value loss"], rows, "Mean over seeds [95 % interval]")
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
    sentences = [sentence for name in COSTS for sentence in cost_sentences(comparison, name)]
    return Section("Time and memory", [Text(note), Points(sentences), *tables])


def cost_sentences(comparison: Comparison, name: str) -> list[str]:
    """Say for each arm whether it takes more or less than the baseline, all environments added up.

    :param comparison: all results
    :param name: a key of ``COSTS``
    """
    sentences = []
    base = _total_cost(comparison, comparison.baseline, name)
    for arm in comparison.others:
        totals = _total_cost(comparison, arm, name)
        n_runs = min(len(totals), len(base))
        if n_runs:
            ratio = statistics.mean_ratio(totals, base)
            sentences.append(ratio_claim(arm, comparison.baseline, COSTS[name], ratio, n_runs))
    return sentences


def _total_cost(comparison: Comparison, arm: str, name: str) -> Matrix:
    """Add up a cost over the environments that all arms share, for each complete seed; of memory take the largest."""
    envs = [env for env in comparison.envs if all(len(comparison.raw("final", a, env)) for a in comparison.arms)]
    seeds = sorted({cell.seed for cell in comparison.results if cell.arm == arm})
    rows = [[comparison.results.get(Cell(arm, env, seed)) for env in envs] for seed in seeds]
    complete = [[result["cost"][name] for result in row if result] for row in rows if row and all(row)]
    condense = max if name == "peak_memory_mib" else sum
    return np.array([condense(row) for row in complete], dtype=float)


def _cost_table(comparison: Comparison, env: str) -> Table:
    steps = comparison.plan.budgets[env].n_timesteps
    costs = {arm: {name: traces.costs(comparison.results, arm, env, name) for name in COSTS} for arm in comparison.arms}
    base = costs[comparison.baseline]
    rows = []
    for arm, of_arm in costs.items():
        if len(of_arm["train_seconds"]):
            row = [arm, estimate(statistics.mean(steps / of_arm["train_seconds"]))]
            for name in COSTS:
                row += [number(of_arm[name].mean()), _relative(of_arm[name], base[name], arm == comparison.baseline)]
            rows.append(row)
    relative = f"relative to {comparison.baseline}"
    header = ["", "steps per second", "wall-clock, s", relative, "processor, s", relative, "peak memory, MiB", relative]
    return Table(header, rows, f"{env}: mean over seeds [95 % interval]")


def _relative(values: Matrix, base: Matrix, is_baseline: bool) -> str:
    return "–" if is_baseline or not len(base) else estimate(statistics.mean_ratio(values, base))


def _trust_region_table(comparison: Comparison, env: str) -> Table | None:
    rows = []
    for arm in comparison.arms:
        runs = traces.read_traces(comparison.results, arm, env)
        measured = {found[0] for trace in runs if (found := trace.kl())}
        cells = [
            "; ".join(KL_MEASURES[name] for name in measured) or "not logged",
            _mean_of(runs, traces.median_kl),
            _mean_of(runs, traces.last("target_kl")),
            _mean_of(runs, traces.share_in_band, percent=True),
            _mean_of(runs, traces.share_above_band, percent=True),
            _mean_of(runs, traces.average("clip_fraction"), percent=True),
            _mean_of(runs, traces.last("beta")),
            _mean_of(runs, traces.last("clip_range")),
        ]
        if any(cell != "–" for cell in cells[1:]):
            rows.append([arm, *cells])
    header = ["", "KL measured as", "median KL", "target", "in the band", "above it", "clip fraction"]
    header += ["beta at the end", "epsilon at the end"]
    return Table(header, rows, f"{env}: mean over seeds [95 % interval]") if rows else None


def _mean_of(runs: list[Trace], condense: Callable[[Trace], float | None], percent: bool = False) -> str:
    values = traces.per_run(runs, condense)
    return estimate(statistics.mean(values) if len(values) else None, percent)


def _update_pictures(comparison: Comparison, name: str, panels: list[figures.Panel]) -> dict[str, Picture]:
    style = comparison.style
    pictures = {}
    for env in comparison.envs:
        runs = {arm: traces.read_traces(comparison.results, arm, env) for arm in comparison.arms}
        picture = figures.update_traces(env, panels, runs, style)
        if picture is not None:
            pictures[f"{name}_{file_name(env)}"] = picture
    return pictures


__all__ = ["cost_section", "cost_sentences", "kl_sentences", "trust_region_section", "value_section"]

"""The beginning of the report: a table with the answer, a sentence for each algorithm, when and with what."""

import numpy as np

from sb3_ppo_variants.compare.cells import RANDOM_POLICY
from sb3_ppo_variants.compare.report import statistics
from sb3_ppo_variants.compare.report.blocks import Block, Byline, Points, Table, Text, estimate, number
from sb3_ppo_variants.compare.report.claims import improvement_claim, joined, ratio_claim
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.runs import processor_time
from sb3_ppo_variants.compare.report.score_sections import KINDS, improvements
from sb3_ppo_variants.compare.report.statistics import Estimate
from sb3_ppo_variants.compare.report.time_to_score import passed, spent_until, target_score

FEW_ENVIRONMENTS = 2
"""Up to so many environments have a column of scores each; more are put together."""

SHARE_OF_SCORE = 0.9
"""Of the way from the score that counts as 0 to the baseline's: of all of it, noise would decide when it is reached."""


def verdict(comparison: Comparison) -> list[Block]:
    """Answer the question of the comparison.

    :param comparison: all results
    """
    better = improvements(comparison, "final")
    aggregates = statistics.aggregate(comparison.matrices("final"))
    rows = [
        [
            arm,
            *_scores(comparison, arm, aggregates.get(arm)),
            estimate(better.get(arm)),
            _time_to_score(comparison, arm),
            _processor(comparison, arm),
        ]
        for arm in comparison.arms
    ]
    baseline = comparison.baseline
    header = [
        "",
        *_score_names(comparison),
        f"P(better than {baseline})",
        f"time to {SHARE_OF_SCORE:.0%} of {baseline}'s score",
        "processor time",
    ]
    caption = "Mean over seeds [95 % interval]; time is that of training, in all environments together"
    note = (
        f"P(better than {baseline}), the probability of improvement, is how likely a run is to end with a higher score "
        f"than one of {baseline} on the same environment; 0.5 means no difference. The time is that of the first "
        f"evaluation which has gone {SHARE_OF_SCORE:.0%} of the way from {comparison.zero_in_words()} to {baseline}'s "
        f"final score: the median over runs [runs that get there].{_left_out(comparison)}"
    )
    return [
        Byline(_byline(comparison), "scores.csv"),
        Table(header, rows, caption),
        Text(note),
        Points(_sentences(comparison)),
    ]


def _left_out(comparison: Comparison) -> str:
    """Say of which environments there is no time, and why."""
    reasons: dict[str, list[str]] = {}
    for env in comparison.envs:
        if target_score(comparison, env, SHARE_OF_SCORE) is None:
            reasons.setdefault(_why_without_a_target(comparison, env), []).append(env)
    return "".join(f" It leaves out {joined(envs)}, where {why}." for why, envs in reasons.items())


def _why_without_a_target(comparison: Comparison, env: str) -> str:
    baseline = comparison.baseline
    if not len(comparison.raw("final", baseline, env)):
        return f"{baseline} has no run{' with a score' if comparison.of(baseline, env) else ''}"
    if comparison.lowest_score(env) is None:
        return f"the random policy has no {'score' if comparison.of(RANDOM_POLICY, env) else 'result'}"
    if env in comparison.given:
        return f"{baseline} does not beat the score given as 0"
    return f"{baseline} is not clearly better than random actions"


def _score_names(comparison: Comparison) -> list[str]:
    if len(comparison.envs) <= FEW_ENVIRONMENTS:
        return [f"final score, {env}" for env in comparison.envs]
    part = comparison.part()
    return [f"final score, normalised (IQM{f', {part}' if part else ''})"]


def _scores(comparison: Comparison, arm: str, aggregates: dict[str, Estimate] | None) -> list[str]:
    if len(comparison.envs) > FEW_ENVIRONMENTS:
        return [estimate(aggregates["IQM"] if aggregates else None)]
    raw = [comparison.raw("final", arm, env) for env in comparison.envs]
    return [estimate(statistics.mean(scores) if len(scores) else None) for scores in raw]


def _time_to_score(comparison: Comparison, arm: str) -> str:
    """Add up the median times over the environments; runs that do not reach the score count as infinitely slow."""
    targets = {env: target_score(comparison, env, SHARE_OF_SCORE) for env in comparison.envs}
    times = [
        spent_until(comparison, arm, env, score, "train_seconds") for env, score in targets.items() if score is not None
    ]
    if not times or not all(map(len, times)):
        return "–"
    reached = sum(int(np.isfinite(of_env).sum()) for of_env in times)
    total = sum(float(np.median(of_env)) for of_env in times)
    runs = f"[{reached} of {sum(map(len, times))} runs]"
    return f"{passed(total)} s {runs}" if np.isfinite(total) else f"not reached {runs}"


def _processor(comparison: Comparison, arm: str) -> str:
    cost, base = (processor_time(comparison, label) for label in (arm, comparison.baseline))
    if not len(cost):
        return "–"
    relative = (
        f" [{cost.mean() / base.mean():.2f} × {comparison.baseline}]"
        if arm != comparison.baseline and len(base)
        else ""
    )
    return f"{number(cost.mean())} s{relative}"


def _sentences(comparison: Comparison) -> list[str]:
    """Say for each arm what is shown; of few runs nothing is."""
    if comparison.few_runs:
        return []
    sentences = []
    found = {kind: improvements(comparison, kind) for kind in KINDS}
    base = processor_time(comparison, comparison.baseline)
    for arm in comparison.others:
        claims = [improvement_claim(name, found[kind][arm]) for kind, name in KINDS.items() if arm in found[kind]]
        cost = processor_time(comparison, arm)
        if min(len(cost), len(base)) >= statistics.FEW_RUNS:
            claims.append(ratio_claim("processor time", statistics.mean_ratio(cost, base)))
        if claims:
            sentences.append(f"{arm} against {comparison.baseline}: {'; '.join(claims)}{_survivors(comparison, arm)}.")
    return sentences


def _survivors(comparison: Comparison, arm: str) -> str:
    """Say of how many runs a sentence is, where some have no result: those that crash may be the bad ones."""
    shares = []
    for label in (arm, comparison.baseline):
        planned = sum(cell.arm == label for cell in comparison.cells)
        usable = sum(len(comparison.raw("final", label, env)) for env in comparison.envs)
        shares += [f"{usable} of {planned} runs of {label}"] if usable < planned else []
    return f" (of the runs that have a score: {joined(shares)})" if shares else ""


def _byline(comparison: Comparison) -> str:
    """Say when it was run, with what, and how many updates a run has."""
    results = comparison.results.values()
    days = sorted({result["finished"][:10] for result in results if "finished" in result})
    when = f" on {days[0]}" if len(days) == 1 else f" from {days[0]} to {days[-1]}" if days else ""
    names = ("sb3-ppo-variants", "stable-baselines3", "rl_zoo3", "torch")
    used = {name: sorted({result["environment"].get(name, "") for result in results} - {""}) for name in names}
    versions = [f"{name} {' and '.join(found)}" for name, found in used.items() if found]
    counts = sorted({n for arm in comparison.arms for env in comparison.envs for n in comparison.updates(arm, env)})
    updates = f" {_range(counts)} policy updates a run." if counts else ""
    return f"Run{when}{' with ' * bool(versions)}{joined(versions) if versions else ''}.{updates}"


def _range(counts: list[int]) -> str:
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


__all__ = ["verdict"]

"""The parts of a sweep's report: the answer, score against value, every point as a table."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from sb3_ppo_variants.compare.cells import file_name
from sb3_ppo_variants.compare.report import statistics
from sb3_ppo_variants.compare.report.blocks import Block, Figures, Points, Section, Table, Text, estimate
from sb3_ppo_variants.compare.report.claims import joined
from sb3_ppo_variants.compare.report.picture import Picture
from sb3_ppo_variants.compare.report.score_sections import KINDS, NOTHING_IN_COMMON, scales
from sb3_ppo_variants.compare.report.statistics import Estimate
from sb3_ppo_variants.compare.report.sweep_figures import Line, scores_by_value
from sb3_ppo_variants.compare.report.sweep_scores import FAILED_BELOW, Sensitivity, SweepScores
from sb3_ppo_variants.compare.sweep import setting_name
from sb3_ppo_variants.figures.figure_style import looks


def sensitivity_blocks(sweep: SweepScores) -> list[Block]:
    """Say how much each algorithm depends on its setting.

    :param sweep: scores at every point
    """
    if not sweep.comparison.scores.common_envs():
        return [NOTHING_IN_COMMON]
    found_by_kind = {kind: sweep.sensitivities(kind) for kind in KINDS}
    blocks: list[Block] = []
    for kind, name in KINDS.items():
        rows = [
            [
                arm,
                estimate(found.best_setting),
                sweep.best_setting(kind, arm),
                estimate(found.tuned_per_env),
                estimate(found.sensitivity),
                estimate(found.mean),
                estimate(found.failed, percent=True),
                str(len(sweep.cube(kind, arm))),
            ]
            for arm, found in found_by_kind[kind].items()
        ]
        header = [
            "",
            "best single setting",
            "which",
            "best per environment",
            "sensitivity",
            "mean of all",
            "failed",
            "runs",
        ]
        blocks.append(
            Table(header, rows, f"Normalised {name}, {sweep.comparison.together()}: estimate [95 % interval]")
        )
    return [*blocks[:1], Text(_note(sweep)), Points(list(_sentences(sweep, found_by_kind["final"]))), *blocks[1:]]


def value_section(sweep: SweepScores) -> Section:
    """Draw score against value, in all environments together and in each.

    :param sweep: scores at every point
    """
    comparison = sweep.comparison
    envs = comparison.scores.common_envs()
    pictures: dict[str, Picture] = {}
    if len(envs) > 1:
        pictures["sweep"] = _picture(
            sweep,
            comparison.together().capitalize(),
            lambda label: _normalised(sweep, label),
            "normalised final score",
        )
    for env in comparison.envs:
        pictures[f"sweep_{file_name(env)}"] = _picture(sweep, env, _of(sweep, env), "final score")
    caption = "Mean final score over seeds, 95 % interval; what an algorithm does not have makes no difference to it"
    return Section("Score against value", [Figures(pictures, caption)])


def point_section(sweep: SweepScores) -> Section:
    """List the score at every point.

    :param sweep: scores at every point
    """
    tables = []
    for env in sweep.comparison.envs:
        read = _of(sweep, env)
        rows = [
            [setting_name(values), *(estimate(_at(sweep, arm, values, read)) for arm in sweep.labels)]
            for values in _points(sweep)
        ]
        tables.append(
            Table(["", *sweep.labels], rows, f"{env}: final score, mean over seeds [95 % interval]", folded=True)
        )
    return Section("Every setting", [*tables])


def _note(sweep: SweepScores) -> str:
    return (
        f"{scales(sweep.comparison, 'the best algorithm and setting')} Sensitivity (Adkins et al., NeurIPS 2024) is "
        "the mean over environments of the best score on each, minus the mean score of the setting that is best over "
        "all of them: what tuning for each environment is worth; less is better. Failed is the share of settings and "
        f"environments with less than {FAILED_BELOW:.0%} of the score of the best setting of {sweep.baseline} there"
        f"{_not_judged(sweep)}. The best of many settings is chosen by the same runs that it is scored with, which "
        "flatters it, in all algorithms alike."
    )


def _not_judged(sweep: SweepScores) -> str:
    texts = [f"{joined(sorted(envs))} ({name})" for kind, name in KINDS.items() if (envs := sweep.not_judged(kind))]
    zero = "the score that counts as 0" if sweep.comparison.given else "random"
    return f", without those where that is not above {zero}: {joined(texts)}" if texts else ""


def _sentences(sweep: SweepScores, found: dict[str, Sensitivity]) -> Iterator[str]:
    """Compare with the baseline where the intervals do not overlap; of few runs nothing is said."""
    incomplete = [arm for arm in sweep.labels if arm not in found]
    if incomplete:
        yield f"No seed has a result at every setting of {joined(incomplete)}, which the table leaves out."
    if sweep.comparison.without_runs or incomplete:  # settings that were not run yet
        return
    if min(len(sweep.cube("final", arm)) for arm in found) < statistics.FEW_RUNS:
        return
    base = found[sweep.baseline]
    measures: dict[str, tuple[str, str]] = {
        "sensitivity": ("depends less on its setting", "depends more on its setting"),
        "failed": ("fails less often", "fails more often"),
        "mean": ("has a lower mean score over all settings", "has a higher mean score over all settings"),
    }
    for arm, own in found.items():
        claims = []
        for name, (lower, higher) in measures.items():
            mine, theirs = getattr(own, name), getattr(base, name)
            if mine is None or theirs is None:
                continue
            claims += [lower] if mine.high < theirs.low else [higher] if mine.low > theirs.high else []
        if arm != sweep.baseline:
            shown = ", ".join(claims) if claims else "no difference is shown, the intervals overlap"
            yield f"{arm} against {sweep.baseline}: {shown}{_crashed(sweep, arm)}."


def _crashed(sweep: SweepScores, arm: str) -> str:
    """Say of how many runs a sentence is that only count as random actions."""
    shares = []
    for name in (arm, sweep.baseline):
        runs, lost = (
            sum(cell.arm in sweep.labels[name] for cell in cells)
            for cells in (sweep.comparison.cells, sweep.comparison.lost)
        )
        shares += [f"{lost} of {runs} runs of {name}"] if lost else []
    return f" (without a score, so counted as random actions: {joined(shares)})" if shares else ""


def _picture(sweep: SweepScores, title: str, read: Callable[[str], Estimate | None], ylabel: str) -> Picture:
    (name, values), *others = sweep.axes.items()
    panels: dict[str, dict[str, Line]] = {}
    for point in itertools.product(*(of for _, of in others)):
        fixed = dict(zip([key for key, _ in others], point))
        panels[setting_name(fixed)] = {
            arm: [_at(sweep, arm, {**fixed, name: value}, read) for value in values] for arm in sweep.labels
        }
    return scores_by_value(title, (name, values), panels, ylabel, looks(sweep.algorithms))


def _at(
    sweep: SweepScores, arm: str, values: dict[str, Any], read: Callable[[str], Estimate | None]
) -> Estimate | None:
    label = sweep.label_at(arm, values)
    return None if label is None else read(label)


def _of(sweep: SweepScores, env: str) -> Callable[[str], Estimate | None]:
    def read(label: str) -> Estimate | None:
        raw = sweep.comparison.raw("final", label, env)
        return statistics.mean(raw) if len(raw) else None

    return read


def _normalised(sweep: SweepScores, label: str) -> Estimate | None:
    comparison = sweep.comparison
    matrix = comparison.scores.matrix("final", label, comparison.scores.common_envs())
    return statistics.aggregate({label: matrix})[label]["mean"] if len(matrix) else None


def _points(sweep: SweepScores) -> Iterator[dict[str, Any]]:
    for point in itertools.product(*sweep.axes.values()):
        yield dict(zip(sweep.axes, point))


__all__ = ["point_section", "sensitivity_blocks", "value_section"]

"""The report: what it consists of, and its files."""

from pathlib import Path

from sb3_ppo_variants.compare.presets import PRESETS
from sb3_ppo_variants.compare.report import sweep_sections
from sb3_ppo_variants.compare.report.blocks import Block, Report, Section, Text, Warnings
from sb3_ppo_variants.compare.report.claims import joined
from sb3_ppo_variants.compare.report.comparison import Comparison
from sb3_ppo_variants.compare.report.render import to_html, to_markdown
from sb3_ppo_variants.compare.report.runs import cost_section, trust_region_section, value_section
from sb3_ppo_variants.compare.report.score_sections import (
    aggregate_section,
    efficiency_section,
    environment_section,
    learning_section,
    paper_section,
)
from sb3_ppo_variants.compare.report.settings_sections import protocol_section, settings_section, warnings
from sb3_ppo_variants.compare.report.sweep_scores import SweepScores
from sb3_ppo_variants.compare.report.sweep_sections import sensitivity_blocks
from sb3_ppo_variants.compare.report.verdict import verdict
from sb3_ppo_variants.saving.atomic_file import write_atomically

FIGURES = "figures"


def make_report(comparison: Comparison) -> Report:
    """Put the report together.

    :param comparison: all results
    :raises ValueError: if there is no run of the baseline
    """
    swept = comparison.plan.swept
    if swept and any(swept[label].arm == swept[comparison.baseline].arm for label in comparison.arms):
        return _sweep_report(comparison)
    if comparison.baseline not in comparison.arms:
        found = "nor of any other; run them"
        if comparison.arms:
            found = f"but of {joined(comparison.arms)}; run them, or name another with --baseline"
        raise ValueError(f"no results of the baseline {comparison.baseline!r}, {found}")
    sections = [
        Section("Summary", [*_question(comparison), *verdict(comparison), Warnings(warnings(comparison))]),
        learning_section(comparison),
        paper_section(comparison),
        aggregate_section(comparison),
        environment_section(comparison),
        efficiency_section(comparison),
        cost_section(comparison),
        trust_region_section(comparison),
        value_section(comparison),
        protocol_section(comparison),
        settings_section(comparison),
    ]
    return Report(_title(comparison), [section for section in sections if section.blocks])


def _sweep_report(comparison: Comparison) -> Report:
    sweep = SweepScores(comparison)
    summary: list[Block] = [*_question(comparison), *sensitivity_blocks(sweep), Warnings(warnings(comparison))]
    sections = [
        Section("Summary", summary),
        sweep_sections.value_section(sweep),
        sweep_sections.point_section(sweep),
        protocol_section(comparison),
        settings_section(comparison),
    ]
    title = f"{joined(list(sweep.labels))} over {joined(list(sweep.axes))}"
    return Report(title, [section for section in sections if section.blocks])


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write report.html, report.md, scores.csv and the figures.

    :param comparison: all results
    :param folder: where to
    :return: the HTML file
    """
    report = make_report(comparison)
    for name, picture in report.pictures().items():
        write_atomically(folder / FIGURES / f"{name}.png", picture.png())
        write_atomically(folder / FIGURES / f"{name}.svg", picture.svg)
    write_atomically(folder / "scores.csv", comparison.episodes.to_csv(index=False))
    write_atomically(folder / "report.md", to_markdown(report, FIGURES))
    write_atomically(folder / "report.html", to_html(report))
    return folder / "report.html"


def _title(comparison: Comparison) -> str:
    others = comparison.others
    if not others:
        return f"Runs of {comparison.baseline}"
    return f"{joined(others) if len(others) < 5 else f'{len(others)} algorithms'} against {comparison.baseline}"


def _question(comparison: Comparison) -> list[Block]:
    preset = PRESETS.get(comparison.plan.preset)
    return [Text(preset.question)] if preset else []


__all__ = ["make_report", "write_report"]

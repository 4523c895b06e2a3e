"""A report as one HTML file with everything in it, and as Markdown beside its figures."""

import base64
import re

import jinja2
import markupsafe

from sb3_ppo_variants.compare.report import blocks
from sb3_ppo_variants.compare.report.blocks import Block, Report


def to_html(report: Report) -> str:
    """Write a report as HTML that needs nothing from elsewhere.

    :param report: what to write
    """
    loader = jinja2.PackageLoader("sb3_ppo_variants.compare.report", "")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, loader=loader)
    environment.filters |= {"data_uri": _data_uri, "anchor": _anchor, "stacked": _stacked}
    return environment.get_template("report.html.jinja").render(report=report, kind=lambda block: type(block).__name__)


def to_markdown(report: Report, figures: str) -> str:
    """Write a report as Markdown.

    :param report: what to write
    :param figures: folder of the figures, relative to the file
    """
    parts = [f"# {report.title}"]
    for i, section in enumerate(report.sections):
        parts += [f"## {section.title}"] if i else []
        parts += [text for block in section.blocks if (text := _markdown(block, figures))]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block, figures: str) -> str:
    if isinstance(block, blocks.Text):
        return _escape(block.text)
    if isinstance(block, blocks.Byline):
        return f"{_escape(block.text)} Every episode of evaluation is in [{block.scores}]({block.scores})."
    if isinstance(block, blocks.Points):
        return "\n".join(f"- {_escape(sentence)}" for sentence in block.sentences)
    if isinstance(block, blocks.Warnings):
        return "\n>\n".join(f"> **Note.** {_escape(sentence)}" for sentence in block.sentences)
    if isinstance(block, blocks.Table):
        return _markdown_table(block)
    if isinstance(block, blocks.Figures):
        images = "\n".join(f"![{_escape(name)}]({figures}/{name}.png)" for name in block.pictures)
        return f"{_escape(block.caption)}:\n\n{images}" if images else ""
    return f"```\n{block.text}\n```"


def _markdown_table(table: blocks.Table) -> str:
    if not table.rows:
        return ""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    text = "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)
    return f"{_escape(table.caption)}:\n\n{text}"


def _escape(text: str) -> str:
    return re.sub(r"([|*<>])", r"\\\1", text)


def _data_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _stacked(cell: str) -> markupsafe.Markup:
    """Make what is in brackets, as in ``1,234 [1,200, 1,260]``, an element that may stand below the value."""
    value, bracket, interval = str(markupsafe.escape(cell)).partition(" [")
    return markupsafe.Markup(f'{value} <span class="interval">[{interval}</span>' if bracket else value)


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


__all__ = ["to_html", "to_markdown"]

"""What a report consists of, before it becomes HTML or Markdown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sb3_ppo_variants.compare.report.picture import Picture
from sb3_ppo_variants.compare.report.statistics import Estimate


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Warnings:
    """What must be known before the numbers are believed."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table.

    :param header: of its columns
    :param rows: cells as text; the first column names the row
    :param caption: what it shows
    :param folded: whether HTML shows the caption only until it is asked for more
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    folded: bool = False


@dataclass(frozen=True)
class Figures:
    """Figures side by side, or one below the other where there is no room.

    :param pictures: file name without ending -> picture
    :param caption: what they show
    """

    pictures: dict[str, Picture]
    caption: str


@dataclass(frozen=True)
class Byline:
    """When and with what it was run.

    :param text: that
    :param scores: file of the raw scores, beside the report
    """

    text: str
    scores: str


@dataclass(frozen=True)
class Code:
    """Text as it is."""

    text: str


Block = Text | Byline | Points | Warnings | Table | Figures | Code


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading.

    :param title: its heading
    :param blocks: in order
    """

    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """A whole report.

    :param title: its heading
    :param sections: the first one, the summary, has no heading of its own
    """

    title: str
    sections: list[Section]

    def pictures(self) -> dict[str, Picture]:
        """Return all figures by file name."""
        figures = [block for section in self.sections for block in section.blocks if isinstance(block, Figures)]
        return {name: picture for block in figures for name, picture in block.pictures.items()}


_MOST_DECIMALS = 5


def number(value: float) -> str:
    """Write a number with three digits, or all that are left of the point.

    :param value: any

    >>> number(1234.5), number(12.345), number(1.2345), number(0.0012345), number(0.0)
    ('1,234', '12.3', '1.23', '0.00123', '0')
    """
    return _writer(value)(value)


def span(low: float, high: float) -> str:
    """Write two numbers as ``number`` does, with more decimals where they would look alike though they differ.

    :param low: any
    :param high: any

    >>> span(0.0, 500.0), span(-200.0, -199.9)
    ('0 to 500', '-200.0 to -199.9')
    """
    for more in range(_MOST_DECIMALS):
        texts = [_writer(end, more)(end) for end in (low, high)]
        if texts[0] != texts[1]:
            break
    return " to ".join(texts)


def estimate(value: Estimate | None, percent: bool = False, apart_from: float | None = None) -> str:
    """Write a number with its interval, all with as many decimals as the largest of them needs; a constant by itself.

    :param value: None gives a dash
    :param percent: whether it is a share in [0, 1]
    :param apart_from: what an end of the interval is not to look like, unless it is that: decimals are added

    >>> estimate(Estimate(0.0262, 0.00235, 0.557))
    '0.03 [0.00, 0.56]'
    >>> estimate(Estimate(500.0, 500.0, 500.0))
    '500'
    >>> estimate(Estimate(0.6, 0.503, 0.7), apart_from=0.5)
    '0.600 [0.503, 0.700]'
    """
    if value is None:
        return "–"
    for more in range(_MOST_DECIMALS):
        write = _percent(more) if percent else _writer(max(map(abs, value)), more)
        middle, low, high = map(write, value)
        looks_alike = [write(apart_from) == write(end) for end in value[1:] if apart_from not in (None, end)]
        if not any(looks_alike):
            break
    return middle if low == middle == high else f"{middle} [{low}, {high}]"


def _percent(decimals: int) -> Callable[[float], str]:
    return f"{{:.{decimals}%}}".format


def _writer(size: float, more: int = 0) -> Callable[[float], str]:
    """Return what writes numbers of this size, with more decimals than usual if need be."""
    for least, decimals in ((100, 0), (10, 1), (0.1, 2), (0.01, 4), (0.001, 5)):
        if abs(size) >= least:
            return lambda value: _without_sign_of_zero(f"{value:,.{decimals + more}f}")
    return "{:.3g}".format


def _without_sign_of_zero(text: str) -> str:
    return text if set(text) & set("123456789") else text.removeprefix("-")


__all__ = [
    "Block",
    "Byline",
    "Code",
    "Figures",
    "Points",
    "Report",
    "Section",
    "Table",
    "Text",
    "Warnings",
    "estimate",
    "number",
    "span",
]

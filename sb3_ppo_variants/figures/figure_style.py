"""What all figures share: how they are made, how each algorithm looks in them, the file formats."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sb3_ppo_variants.arguments.checks import require

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sb3_ppo_variants.figures.shown_figure import ShownFigure

# Okabe and Ito's colours for colour-blind readers, without the yellow, which is too pale on white.
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
COLORS = ("#000000", BLUE, VERMILLION, GREEN, "#CC79A7", "#56B4E9", "#E69F00")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)), (0, (3, 1)))
MARKERS = "osD^vPX*<>h"
ENDINGS = (".png", ".svg", ".pdf")

BAND: dict[str, Any] = {"color": "0.5", "alpha": 0.18, "linewidth": 0}
HEALTHY_CLIP_FRACTION = (0.1, 0.4)
"""Share of clipped samples that is usual in runs that learn well: a rule of thumb."""

ALGORITHMS = ("ppo", "trpo", "ppo_penalty", "ppo_adaptive_clip", "ppo_clip", "a2c", "ppo_adaptive_lr")
"""The order of the algorithms in every figure and table; each has the look of its place."""


class Look(NamedTuple):
    """How an algorithm is drawn, in matplotlib's words; colour is never needed to tell it."""

    color: str
    linestyle: Any
    marker: str


def _look(place: int) -> Look:
    return Look(COLORS[place % len(COLORS)], DASHES[place % len(DASHES)], MARKERS[place % len(MARKERS)])


def looks(algorithms: Mapping[str, str]) -> dict[str, Look]:
    """Give each label the look of its algorithm; of several with one algorithm the first has it, the others free ones.

    :param algorithms: name in rl-zoo3 by label; a recurrent or maskable one looks like the one it comes from
    """
    found: dict[str, Look | None] = {}
    for label, algorithm in algorithms.items():
        own = _look(_place(algorithm)) if _place(algorithm) < len(ALGORITHMS) else None
        found[label] = None if own in found.values() else own
    free = (look for look in map(_look, itertools.count()) if look not in found.values())
    return {label: look or next(free) for label, look in found.items()}


def in_order(algorithms: Mapping[str, str]) -> list[str]:
    """Put labels into the order of their algorithms; unknown ones and those of one algorithm stay as they are.

    :param algorithms: name in rl-zoo3 by label

    >>> in_order({"mine": "ppo_penalty_lstm", "sac": "sac", "ppo": "ppo"})
    ['ppo', 'mine', 'sac']
    """
    return sorted(algorithms, key=lambda label: _place(algorithms[label]))


def _place(algorithm: str) -> int:
    family = re.sub("_(lstm|mask)$", "", algorithm)
    return ALGORITHMS.index(family) if family in ALGORITHMS else len(ALGORITHMS)


def require_matplotlib() -> None:
    """Refuse to go on without matplotlib.

    :raises ImportError: if it is not installed
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install ".[plots]" in a clone of the project') from error


@contextlib.contextmanager
def new_figure(width: float, height: float, legend: Sequence[str] = ()) -> Iterator[ShownFigure]:
    """Give an empty figure, to be drawn in the style of all of them.

    :param width: inches
    :param height: inches, without the legend
    :param legend: the labels that ``add_legend`` is to list below the axes
    :raises ImportError: if matplotlib is not installed
    """
    require_matplotlib()
    import matplotlib as mpl

    from sb3_ppo_variants.figures.shown_figure import SETTINGS, ShownFigure

    rows = -(-len(legend) // _legend_columns(legend, width))
    with mpl.rc_context(SETTINGS):
        yield ShownFigure(figsize=(width, height + 0.2 * rows), layout="constrained")


def add_legend(figure: Figure, style: Mapping[str, Look], others: Iterable[Artist] = ()) -> None:
    """Put the one legend of a figure below its axes.

    :param figure: where
    :param style: looks by label
    :param others: whatever else has a label
    """
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], label=label, **look._asdict()) for label, look in style.items()]
    handles = [*lines, *others]
    columns = _legend_columns([str(handle.get_label()) for handle in handles], figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _legend_columns(labels: Sequence[str], width: float) -> int:
    return max(1, min(4, int(11 * width) // (max(map(len, labels), default=0) + 6)))


def wrapped(title: str, width: float, size: float = 12, weight: str = "bold") -> str:
    """Break those lines of a title that are too wide.

    :param title: whatever is to stand there
    :param width: inches that there are
    :param size: of the letters, in points
    :param weight: of the letters, ``"bold"`` or ``"normal"``
    """
    lines: list[str] = []
    for line in title.split("\n"):
        needed = inches(line, size, weight)
        # letters differ in width, so a part of the line may be wider than its share
        lines += textwrap.wrap(line, int(0.9 * len(line) * width / needed)) if needed > width else [line]
    return "\n".join(lines)


def inches(line: str, size: float, weight: str) -> float:
    """Measure how wide a line is.

    :param line: without a line break
    :param size: of the letters, in points
    :param weight: of the letters, ``"bold"`` or ``"normal"``
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), line, prop=FontProperties(weight=weight, size=size)).get_extents().width) / 72


def lower_end(values: npt.NDArray[np.float64], rounding: float = 0.0) -> float | None:
    """Return where a logarithmic axis is to draw what is too low for it, such as 0; what is above stays as it is.

    :param values: all that is drawn there
    :param rounding: what is below it is rounding, unless nothing is above it
    :return: None if no value is positive, so that the axis must be linear
    """
    positive = values[values > 0]
    if not len(positive):
        return None
    if rounding and (values > rounding).any():
        return rounding
    return float(positive.min()) / (2 if (values <= 0).any() else 1)


def naming_lower_end(title: str, values: npt.NDArray[np.float64], least: float) -> str:
    """Add to a panel's title where what is too low for it is drawn, if anything is.

    :param title: of the panel
    :param values: all that is drawn there
    :param least: what is below is drawn here
    """
    return f"{title} (lower is drawn at {least:.2g})" if (values < least).any() else title


def plain_log_axis(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers such as 20, 50, 100, at least two of them.

    :param axes: with everything drawn, of which something is above 0
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    middle, half = (low * high) ** 0.5, max((high / low) ** 0.5, 3.0)
    axes.set_ylim(middle / half, middle * half)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if half < 15 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.9f}".rstrip("0").rstrip(".")))
    axes.yaxis.set_minor_locator(NullLocator())


def steps_axis(axes: Axes, ticks: Iterable[float] = ()) -> None:
    """Count environment steps on the horizontal axis, as in 20k and 1M.

    :param axes: with everything drawn
    :param ticks: all the steps there are; a single one gets the only tick
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    single = len(only := list(ticks)) == 1
    axes.xaxis.set_major_locator(FixedLocator(only) if single else MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1e3:g}k"))


def say(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty.

    :param axes: without anything drawn
    :param text: the reason
    """
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_yticks([])


def check_ending(path: str | os.PathLike[str]) -> Path:
    """Refuse a file name from which the format does not follow.

    :param path: of the figure
    :raises ValueError: if it ends neither in .png nor in .svg nor in .pdf
    """
    known = Path(path).suffix.lower() in ENDINGS
    require(known, f"a figure's file must end in {', '.join(ENDINGS)}", str(path), "the ending chooses the format")
    return Path(path)

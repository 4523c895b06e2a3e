"""How the figures look: an arm has a colour, a line style and a marker, so that colour is never needed to tell it."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sb3_ppo_variants.figures.figure_style import BLUE, GREEN, VERMILLION

# Okabe and Ito's colours for colour-blind readers, without the yellow, which is too pale on white.
COLORS = ("#000000", BLUE, VERMILLION, GREEN, "#CC79A7", "#56B4E9", "#E69F00")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)), (0, (3, 1)))
MARKERS = "osD^vPX*<>h"

SETTINGS: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.markersize": 4.5,
    "svg.hashsalt": "compare",  # the same figure gives the same file
}


class Look(NamedTuple):
    """How an arm is drawn."""

    color: str
    dashes: Any
    marker: str


@dataclass(frozen=True)
class Picture:
    """A finished figure, drawn when it is asked for.

    :param figure: what to draw
    """

    figure: Figure

    def png(self) -> bytes:
        """Draw it at 200 dots per inch."""
        return self._draw(format="png", dpi=200)

    @cached_property
    def svg(self) -> bytes:
        """Draw it scalable."""
        return self._draw(format="svg", metadata={"Date": None})

    def _draw(self, **options: Any) -> bytes:
        buffer = io.BytesIO()
        with mpl.rc_context(SETTINGS):
            self.figure.savefig(buffer, **options)
        return buffer.getvalue()


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """Give each arm its look.

    :param arms: labels; the first, the baseline, is black
    """
    return {
        arm: Look(COLORS[i % len(COLORS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, arm in enumerate(arms)
    }


@contextlib.contextmanager
def new_figure(
    height: float, n_panels: int = 1, columns: int = 1, legend: Sequence[str] = ()
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give an empty figure, wide enough for half a page and a phone, in the style of all of them.

    :param height: inches, without the legend
    :param n_panels: number of axes
    :param columns: in how many columns they are; those in one column share the x axis
    :param legend: arms that ``add_legend`` is to list below the axes
    """
    rows = -(-len(legend) // _legend_columns(legend))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5.4, height + 0.2 * rows), layout="constrained")
        axes = figure.subplots(-(-n_panels // columns), columns, squeeze=False, sharex=columns == 1)
        yield figure, list(axes.flat)[:n_panels]


def add_legend(figure: Figure, style: Mapping[str, Look], arms: Sequence[str]) -> None:
    """Put the legend of the arms below the axes.

    :param figure: where
    :param style: by arm
    :param arms: those in the figure
    """
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle=look.dashes, label=arm)
        for arm, look in ((arm, style[arm]) for arm in arms)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=_legend_columns(arms))


def _legend_columns(arms: Sequence[str]) -> int:
    return max(1, min(4, 60 // (max(map(len, arms), default=0) + 6)))


__all__ = ["Look", "Picture", "add_legend", "looks", "new_figure"]

"""A matplotlib figure that a notebook shows; matplotlib is imported with this module."""

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

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
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "svg.hashsalt": "sb3_ppo_variants",  # the same figure gives the same file
}
"""The style of all figures, beside matplotlib's own defaults."""


class ShownFigure(Figure):
    """A figure that is shown when it is the value of a notebook's cell, without pyplot and without a display."""

    def _repr_png_(self) -> bytes:
        return self.drawn("png")

    def drawn(self, ending: str, **options: Any) -> bytes:
        """Draw it and return the file's content.

        :param ending: ``"png"``, ``"svg"`` or ``"pdf"``
        :param options: of matplotlib's ``savefig``
        """
        content = io.BytesIO()
        with mpl.rc_context(SETTINGS):
            self.savefig(content, format=ending, **options)
        return content.getvalue()


__all__ = ["SETTINGS", "ShownFigure"]

"""A finished figure of the report."""

from dataclasses import dataclass
from functools import cached_property

from sb3_ppo_variants.figures.shown_figure import ShownFigure

WIDTH = 5.4
"""Inches: wide enough for half a page and for a phone."""


@dataclass(frozen=True)
class Picture:
    """A finished figure, drawn when it is asked for.

    :param figure: what to draw
    """

    figure: ShownFigure

    def png(self) -> bytes:
        """Draw it at 200 dots per inch."""
        return self.figure.drawn("png", dpi=200)

    @cached_property
    def svg(self) -> bytes:
        """Draw it scalable, on the page's own ground."""
        return self.figure.drawn("svg", metadata={"Date": None}, transparent=True)


__all__ = ["WIDTH", "Picture"]

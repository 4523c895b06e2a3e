"""What all figures share: how they are made, their colours, the file formats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sb3_ppo_variants.arguments.checks import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; lines also differ in style, marker or label.
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
ENDINGS = (".png", ".svg", ".pdf")


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure.

    :param width: inches
    :param height: inches
    :raises ImportError: if matplotlib is not installed
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install ".[plots]" in a clone of the project') from error
    return Figure(figsize=(width, height), layout="constrained")


def check_ending(path: str | os.PathLike[str]) -> Path:
    """Refuse a file name from which the format does not follow.

    :param path: of the figure
    :raises ValueError: if it ends neither in .png nor in .svg nor in .pdf
    """
    known = Path(path).suffix.lower() in ENDINGS
    require(known, f"a figure's file must end in {', '.join(ENDINGS)}", str(path), "the ending chooses the format")
    return Path(path)

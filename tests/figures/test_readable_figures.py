"""The figures can be read: nothing is hidden, cut off, on top of something else, or in the legend only."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from test_plots import table

from sb3_ppo_variants.figures.figure_style import DASHES
from sb3_ppo_variants.plots import plot_trust_region

# --------------------------------------------------------------------------------------------------------- targets


def listed(figure: Figure) -> list[str]:
    """Return what the legend lists."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def targets(axes: Axes) -> list[Line2D]:
    """Return the lines without a label that are level: the targets of labels with different ones."""
    unnamed = [line for line in axes.lines if str(line.get_label()).startswith("_")]
    return [line for line in unnamed if len(set(np.asarray(line.get_ydata()))) == 1]


def colours_at(figure: Figure, axes: Axes, height: float) -> set[tuple[int, ...]]:
    """Return the colours of the pixels in which a line at that height is drawn."""
    figure.set_dpi(300)  # lines are thicker than their blurred edges
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    y = int(axes.transData.transform((1, height))[1])
    return {tuple(map(int, colour)) for colour in pixels[y - 2 : y + 3].reshape(-1, 3)}


def test_different_targets_are_named_in_the_legend_and_look_like_no_algorithm() -> None:
    figure = plot_trust_region({"tight": [table([0.1] * 2, target_kl=0.005)], "loose": [table([0.1] * 2)]})
    assert listed(figure)[:3] == ["tight", "loose", "target KL of each, in its colour"]
    curves = {str(line.get_label()): line.get_color() for line in figure.axes[0].lines}
    assert {line.get_color() for line in targets(figure.axes[0])} == {curves["tight"], curves["loose"]}
    for line in targets(figure.axes[0]):
        own = line._unscaled_dash_pattern  # type: ignore[attr-defined]
        assert own not in [Line2D([], [], linestyle=dashes)._unscaled_dash_pattern for dashes in DASHES]  # type: ignore[attr-defined]


def test_a_target_that_two_of_three_labels_share_is_seen_in_both_colours() -> None:
    tight, loose = table([0.1] * 3, target_kl=0.005), table([0.1] * 3)
    figure = plot_trust_region({"tight": [tight], "loose": [loose], "also loose": [loose]})
    style = {str(line.get_label()): line.get_color() for line in figure.axes[0].lines}
    seen = colours_at(figure, figure.axes[0], 0.02)
    for label in ("loose", "also loose"):
        assert tuple(round(255 * part) for part in to_rgb(style[label])) in seen

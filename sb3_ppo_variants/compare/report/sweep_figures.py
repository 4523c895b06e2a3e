"""Score against the value of a swept hyperparameter."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from sb3_ppo_variants.compare.report.picture import WIDTH, Picture
from sb3_ppo_variants.compare.report.statistics import Estimate
from sb3_ppo_variants.figures.figure_style import Look, add_legend, new_figure, wrapped

Line = Sequence[Estimate | None]
"""An estimate for each value on the axis; None where there is no run."""


def scores_by_value(
    title: str,
    axis: tuple[str, Sequence[Any]],
    panels: Mapping[str, Mapping[str, Line]],
    ylabel: str,
    style: Mapping[str, Look],
) -> Picture:
    """Draw mean scores with their 95 % intervals, a panel for each setting of the other hyperparameters.

    :param title: of the figure
    :param axis: name and values of the hyperparameter on the horizontal axis
    :param panels: by the others' setting, "" for none: by arm, its line
    :param ylabel: what the score is
    :param style: by arm
    """
    name, values = axis
    arms = list(next(iter(panels.values())))
    with new_figure(WIDTH, 0.8 + 2.3 * len(panels), legend=arms) as figure:
        every = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (setting, lines) in zip(every, panels.items()):
            places = _places(axes, values)
            for arm, line in lines.items():
                _draw(axes, places, line, style[arm])
            axes.set_ylabel(ylabel)
            if setting:
                axes.set_title(
                    wrapped(setting, WIDTH - 0.9, 10, "normal"), loc="left", fontsize=10, fontweight="normal"
                )
        every[-1].set_xlabel(name)
        figure.suptitle(wrapped(title, WIDTH - 0.2))
        add_legend(figure, {arm: style[arm] for arm in arms})
        return Picture(figure)


def _places(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Return where each value is: at its logarithm if all are positive and span a factor of ten, else side by side."""
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 for value in values)
    if numeric and max(values) >= 10 * min(values):
        axes.set_xscale("log")
        places = [float(value) for value in values]
    else:
        places = [float(i) for i in range(len(values))]
    axes.set_xticks(places, [f"{value:g}" if isinstance(value, float) else str(value) for value in values])
    axes.minorticks_off()
    return places


def _draw(axes: Axes, places: Sequence[float], line: Line, look: Look) -> None:
    if any(line):
        nothing = Estimate(np.nan, np.nan, np.nan)  # line and band break there
        known = sorted((place, *(estimate or nothing)) for place, estimate in zip(places, line))
        x, value, low, high = np.array(known, dtype=float).T
        axes.fill_between(x, low, high, color=look.color, alpha=0.13, linewidth=0)
        axes.plot(x, value, **look._asdict())
        beside = np.pad(value, 1, constant_values=np.nan)
        alone = np.isnan(beside[:-2]) & np.isnan(beside[2:])  # where a band has no width
        axes.vlines(x[alone], low[alone], high[alone], color=look.color, alpha=0.4, linewidth=4)


__all__ = ["Line", "scores_by_value"]

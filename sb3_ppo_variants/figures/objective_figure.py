"""The figure of the objectives: what clip and penalty do to a sample, against its probability ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch as th

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.figures.figure_style import BLUE, GREY, VERMILLION, new_figure, wrapped
from sb3_ppo_variants.update.losses import clipped_surrogate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sb3_ppo_variants.figures.shown_figure import ShownFigure

FloatArray = npt.NDArray[np.float64]


def plot_clip_objective(
    advantages: Sequence[float] = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0),
    clip_range: float = 0.2,
    clip_range_upper: float = 0.28,
    dual_clip: float = 3.0,
    beta: float = 1.0,
) -> ShownFigure:
    """Draw what a sample adds to the objective, against its probability ratio r.

    Left: the clipped surrogate (PPO paper, arXiv:1707.06347, eq. 7). Middle: with an asymmetric range (DAPO,
    arXiv:2503.14476) and dual clip (arXiv:1912.09729, eq. 5). Right: the KL-penalised objective
    ``r A - beta ((r - 1) - ln r)``, whose mean over actions of the old policy is ``E[r A] - beta KL(old || new)``
    (Schulman, "Approximating KL divergence", 2020).

    :param advantages: one line each, none of them 0
    :param clip_range: epsilon, in (0, 1)
    :param clip_range_upper: upper half-width of the asymmetric range, > 0 and finite
    :param dual_clip: bound c > 1 for negative advantages, finite
    :param beta: coefficient of the penalty, > 0
    :raises ValueError: for a value outside its range
    """
    require(
        len(advantages) > 0 and all(math.isfinite(a) and a != 0 for a in advantages),
        "`advantages` must be numbers != 0",
        advantages,
        "e.g. 1",
    )
    require(0 < clip_range < 1, "`clip_range` must be in (0, 1)", clip_range, "0.2 is usual")
    require(
        0 < clip_range_upper < math.inf, "`clip_range_upper` must be > 0 and finite", clip_range_upper, "0.28 is DAPO's"
    )
    require(1 < dual_clip < math.inf, "`dual_clip` must be > 1 and finite", dual_clip, "3 is usual")
    require(0 < beta < math.inf, "`beta` must be > 0 and finite", beta, "1 is the default")
    with new_figure(13, 4.8) as figure:
        left, middle, right = figure.subplots(1, 3)
        low, high, upper = 1 - clip_range, 1 + clip_range, 1 + clip_range_upper

        _draw_objective(left, advantages, np.linspace(0.5 * low, 1.5 * high, 601), clip_range, clip_range)
        _mark(left, [(low, "1 − ε"), (high, "1 + ε")])
        left.set(title=f"Clipped: flat beyond [{low:g}, {high:g}] on the\nside on which the sample would gain")
        left.set(ylabel="objective of the sample  [unit of A]")

        ratio = np.linspace(0, 1.3 * max(upper, dual_clip), 601)
        _draw_objective(middle, advantages, ratio, clip_range, clip_range_upper, dual_clip)
        _mark(middle, [(low, "1 − ε"), (upper, "1 + ε'"), (dual_clip, "c")])
        name = f"Asymmetric range [{low:g}, {upper:g}] and dual clip:\nalso flat for A < 0 beyond c = {dual_clip:g}"
        middle.set(title=wrapped(name, 4.1, 11))

        _draw_penalty(right, advantages, beta)
        for axes in (left, middle, right):
            axes.set(xlabel="ratio r = new / old probability of the action  [–]")
        figure.suptitle("How far a sample of advantage A pulls the policy: objective to be maximised")
    return figure


def _draw_objective(
    axes: Axes, advantages: Sequence[float], ratio: FloatArray, low: float, high: float, dual: float | None = None
) -> None:
    for advantage in advantages:
        ratios = th.as_tensor(ratio)
        values = clipped_surrogate(ratios, th.full_like(ratios, advantage), low, high, dual)
        _draw_line(axes, ratio, values.numpy(), advantage, advantages)


def _draw_penalty(axes: Axes, advantages: Sequence[float], beta: float) -> None:
    ratio = np.linspace(0.05, 3, 600)
    for advantage in advantages:
        _draw_line(axes, ratio, ratio * advantage - beta * (ratio - 1 - np.log(ratio)), advantage, advantages)
        best = beta / (beta - advantage) if advantage < beta else np.inf
        if best <= ratio[-1]:
            height = best * advantage - beta * (best - 1 - np.log(best))
            axes.plot(best, height, "o", color="black", markersize=5, zorder=3)
    _mark(axes, [])
    axes.set(title=f"KL penalty, β = {beta:g}: nothing is flat;\ndots: the most that a sample asks for (A < β)")


def _draw_line(axes: Axes, x: FloatArray, y: FloatArray, advantage: float, advantages: Sequence[float]) -> None:
    sizes = sorted({abs(a) for a in advantages})
    style = ("-", "--", ":", "-.")[sizes.index(abs(advantage)) % 4]
    name = f"A = {advantage:g}".replace("-", "−")
    axes.plot(x, y, linestyle=style, color=BLUE if advantage > 0 else VERMILLION, linewidth=1.8, label=name)


def _name_lines(axes: Axes) -> None:
    """Write the name of every line at its end, or as near to it as the others let it: at last, within the limits."""
    lines = [line for line in axes.lines if str(line.get_label()).startswith("A")]
    ends = [(float(np.asarray(line.get_xdata())[-1]), float(np.asarray(line.get_ydata())[-1])) for line in lines]
    low, high = axes.get_ylim()
    heights = apart([(y - low) / (high - low) for _, y in ends], gap=0.05, highest=0.98)
    near: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "center"}
    for line, (x, _), height in zip(lines, ends, heights):
        axes.annotate(str(line.get_label()), (x, height), xytext=(4, 0), **near)


def apart(heights: Sequence[float], gap: float, highest: float) -> list[float]:
    """Move heights as far as needed to have a gap between any two, those that are close about their middle.

    >>> apart([0.5, 0.0, 0.5], gap=0.25, highest=1)
    [0.375, 0.0, 0.625]
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[float]] = []
    for i in order:
        groups.append([heights[i]])
        while len(groups) > 1 and fmean(groups[-1]) - fmean(groups[-2]) < gap * (len(groups[-1]) + len(groups[-2])) / 2:
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = [fmean(group) + gap * (i - (len(group) - 1) / 2) for group in groups for i in range(len(group))]
    below = [min(height, highest - gap * (len(moved) - 1 - i)) for i, height in enumerate(moved)]
    return [height for _, height in sorted(zip(order, below))]


def _mark(axes: Axes, boundaries: Sequence[tuple[float, str]]) -> None:
    """Mark places on the horizontal axis and, within the limits that this leads to, the lines."""
    axes.axvline(1, color="0.85", linewidth=1, zorder=0)
    axes.axhline(0, color="0.85", linewidth=1, zorder=0)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.06 * max(1, len(boundaries) - 1) * (high - low), high)  # room for the names
    for i, (x, name) in enumerate(boundaries):
        axes.axvline(x, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
        height = 0.015 + 0.05 * max(0, i - 1)  # two to the right of 1 may be close
        axes.text(x, height, f" {name} ", transform=axes.get_xaxis_transform(), ha="right" if x < 1 else "left")
    axes.grid(visible=False)
    _name_lines(axes)


__all__ = ["plot_clip_objective"]

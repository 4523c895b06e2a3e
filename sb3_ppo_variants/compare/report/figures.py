"""The figures of the report; each function takes numbers and returns a picture."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sb3_ppo_variants.compare.report.picture import WIDTH, Picture
from sb3_ppo_variants.compare.report.scores import Matrix
from sb3_ppo_variants.compare.report.statistics import Curve, Estimate
from sb3_ppo_variants.compare.report.traces import KL_TOLERANCE, Read, Trace
from sb3_ppo_variants.figures.figure_style import (
    Look,
    add_legend,
    inches,
    lower_end,
    naming_lower_end,
    new_figure,
    plain_log_axis,
    steps_axis,
    wrapped,
)

N_BINS = 40

LEAST_EXPLAINED_VARIANCE = -0.5
KL_ROUNDING = 1e-8
"""What is below is drawn there, so that single values leave room for the rest."""

LEAST_CLIP_FRACTION = 0.01
"""The panel reaches at least so high: what is next to nothing looks like it."""


class Learning(NamedTuple):
    """What an arm learned on an environment.

    :param steps: of the evaluations, shape (n_points,)
    :param mean: over seeds
    :param seeds: each by itself, shape (n_seeds, n_points)
    """

    steps: Matrix
    mean: Curve
    seeds: Matrix


def learning_curves(
    env: str, curves: Mapping[str, Learning], random: float | None, style: Mapping[str, Look]
) -> Picture:
    """Draw mean reward over training steps with the 95 % band of the mean, before a faint line for each seed.

    :param env: environment ID
    :param curves: by arm
    :param random: mean reward of the random policy
    :param style: by arm
    """
    with new_figure(WIDTH, 3.5, legend=list(curves)) as figure:
        axes = figure.subplots()
        for arm, learning in curves.items():
            axes.plot(learning.steps, learning.seeds.T, color=style[arm].color, alpha=0.25, linewidth=0.7, zorder=1)
            _line(axes, learning.steps, learning.mean, style[arm])
        if random is not None:
            axes.axhline(random, color="0.5", linewidth=1, linestyle=(0, (1, 3)))
            place = axes.get_yaxis_transform()  # across the axes, at that reward
            behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
            corner: dict[str, Any] = {"transform": place, "ha": "right", "va": "bottom", "bbox": behind}
            axes.text(1, random, "random policy", fontsize=8, color="0.35", **corner)
        axes.set(title=wrapped(env, WIDTH - 1.3, 11), xlabel="environment steps", ylabel="reward per episode")
        steps_axis(axes)
        add_legend(figure, {arm: style[arm] for arm in curves})
        return Picture(figure)


def normalised_curves(title: str, curves: Mapping[str, Curve], shares: Matrix, style: Mapping[str, Look]) -> Picture:
    """Draw the interquartile mean of normalised scores over the share of training done.

    :param title: of the figure
    :param curves: by arm
    :param shares: of the training, in [0, 1]
    :param style: by arm
    """
    labels = {"title": title, "xlabel": "share of the training", "ylabel": "IQM of normalised scores"}
    return _one_panel(curves, shares, style, labels, percent="x")


def aggregate_intervals(
    estimates: Mapping[str, Mapping[str, Estimate]], style: Mapping[str, Look], scale: str
) -> Picture:
    """Draw the aggregates with their intervals, a panel each, on one axis on which 0 and 1 are marked.

    :param estimates: by arm and name
    :param style: by arm
    :param scale: what is 0 and 1, in short
    """
    names = list(next(iter(estimates.values())))
    labels = _broken(estimates)
    with new_figure(WIDTH, 0.6 + (0.5 + _row(0.3, labels) * len(estimates)) * len(names)) as figure:
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, names):
            for x in (0, 1):
                axes.axvline(x, color="0.4", linewidth=1, linestyle="--", zorder=0)
            _intervals(axes, {arm: of_arm[name] for arm, of_arm in estimates.items()}, style)
            title = name + (" (less is better)" if name == "optimality gap" else "")
            axes.set_title(wrapped(title, _room(labels), 11), loc="left")
        panels[-1].set_xlabel(wrapped(f"normalised score: {scale}", _room(labels), 10, "normal"))
        return Picture(figure)


def improvement(estimates: Mapping[str, Estimate], baseline: str, style: Mapping[str, Look]) -> Picture:
    """Draw the probabilities of improvement with their intervals.

    :param estimates: by arm
    :param baseline: its label
    :param style: by arm
    """
    labels = _broken(estimates)
    title = wrapped(f"Probability of improvement over {baseline}", _room(labels), 11)
    with new_figure(WIDTH, 1.3 + 0.2 * title.count("\n") + _row(0.42, labels) * len(estimates)) as figure:
        axes = figure.subplots()
        _intervals(axes, estimates, style)
        axes.axvline(0.5, color="0.4", linewidth=1, linestyle="--")
        axes.set(title=title, xlim=(-0.02, 1.02), xlabel="final score")
        return Picture(figure)


def profiles(curves: Mapping[str, Curve], thresholds: Matrix, style: Mapping[str, Look]) -> Picture:
    """Draw the performance profiles.

    :param curves: share of runs above each threshold, by arm
    :param thresholds: normalised scores
    :param style: by arm
    """
    labels = {"title": "Performance profiles", "xlabel": "normalised final score", "ylabel": "share of runs above it"}
    return _one_panel(curves, thresholds, style, labels, percent="y")


Panel = tuple[str, Read]
"""Title of a panel and what it shows of a trace."""


def update_traces(
    title: str, panels: Sequence[Panel], traces: Mapping[str, Sequence[Trace]], style: Mapping[str, Look]
) -> Picture | None:
    """Draw what was recorded of the updates: median over seeds, and the range of all updates as a band.

    What is too low for a panel is drawn at its lower end, and its title says so.

    :param title: of the figure
    :param panels: from top to bottom; those that no arm has are left out
    :param traces: of the seeds, by arm
    :param style: by arm
    :return: None if nothing of it was recorded
    """
    drawn = {
        name: {arm: binned for arm, runs in traces.items() if (binned := _binned(runs, read)) is not None}
        for name, read in panels
    }
    drawn = {name: lines for name, lines in drawn.items() if lines}
    if not drawn:
        return None
    arms = [arm for arm in traces if any(arm in lines for lines in drawn.values())]
    with new_figure(WIDTH, 0.7 + 1.75 * len(drawn), legend=arms) as figure:
        every = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, lines) in zip(every, drawn.items()):
            _draw_updates(axes, name, lines, style)
        every[-1].set_xlabel("environment steps")
        steps_axis(every[-1])
        figure.suptitle(wrapped(title, WIDTH - 0.2))
        add_legend(figure, {arm: style[arm] for arm in arms})
        return Picture(figure)


def _draw_updates(axes: Axes, name: str, lines: Mapping[str, tuple[Matrix, Curve]], style: Mapping[str, Look]) -> None:
    values = np.concatenate([part for _, curve in lines.values() for part in curve])
    logarithmic = "KL" in name or name in ("beta", "value loss", "adaptive learning rate")
    end = lower_end(values, KL_ROUNDING if "KL" in name else 0.0) if logarithmic else None
    least = LEAST_EXPLAINED_VARIANCE if name == "explained variance" else -np.inf if end is None else end
    for arm, (steps, curve) in lines.items():
        _line(axes, steps, Curve(*(np.maximum(part, least) for part in curve)), style[arm])
    axes.set_title(naming_lower_end(name, values, least), loc="left", fontsize=10, fontweight="normal")
    if "/ target" in name:
        axes.axhspan(1 / KL_TOLERANCE, KL_TOLERANCE, color="0.85", zorder=0)
        axes.axhline(1, color="0.5", linewidth=1)
    if end is not None:
        plain_log_axis(axes)  # whose limits hold the band, too
    if name == "clip fraction":
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")  # 0.5% is not 1%
        axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], LEAST_CLIP_FRACTION))
    if name == "explained variance":
        axes.set_ylim(bottom=max(axes.get_ylim()[0], LEAST_EXPLAINED_VARIANCE - 0.05), top=1.02)


def _binned(runs: Sequence[Trace], read: Read) -> tuple[Matrix, Curve] | None:
    """Put updates into bins of steps: the median of the runs' means in each, and the range of all its updates."""
    columns = [(trace["timesteps"], values) for trace in runs if (values := read(trace)) is not None]
    if not columns:
        return None
    last = max(steps[-1] for steps, _ in columns)
    runs_and_bins = [
        pd.DataFrame({"run": run, "bin": np.ceil(steps / last * N_BINS), "steps": steps, "value": values})
        for run, (steps, values) in enumerate(columns)
    ]
    updates = pd.concat(runs_and_bins).dropna()
    bins = updates.groupby("bin")
    middle = updates.groupby(["bin", "run"])["value"].mean().groupby("bin").median()
    lowest, highest = bins["value"].min(), bins["value"].max()
    return bins["steps"].mean().to_numpy(float), Curve(*(part.to_numpy(float) for part in (middle, lowest, highest)))


def _one_panel(
    curves: Mapping[str, Curve], x: Matrix, style: Mapping[str, Look], labels: Mapping[str, str], percent: str
) -> Picture:
    """Draw one curve per arm; ``percent`` names the axis that holds shares."""
    with new_figure(WIDTH, 3.5, legend=list(curves)) as figure:
        axes = figure.subplots()
        for arm, curve in curves.items():
            _line(axes, x, curve, style[arm])
        axes.set(**labels)
        getattr(axes, f"{percent}axis").set_major_formatter(PercentFormatter(1, decimals=0))
        add_legend(figure, {arm: style[arm] for arm in curves})
        return Picture(figure)


def _line(axes: Axes, x: Matrix, curve: Curve, look: Look) -> None:
    axes.fill_between(x, curve.low, curve.high, color=look.color, alpha=0.15, linewidth=0)
    axes.plot(x, curve.value, markevery=max(len(x) // 8, 1), **look._asdict())


def _intervals(axes: Axes, estimates: Mapping[str, Estimate], style: Mapping[str, Look]) -> None:
    for row, (arm, estimate) in enumerate(estimates.items()):
        look = style[arm]
        exactly: dict[str, Any] = {"linewidth": 6, "alpha": 0.35, "solid_capstyle": "butt"}  # not half a width longer
        axes.plot([estimate.low, estimate.high], [row, row], color=look.color, **exactly)
        axes.plot(estimate.value, row, color=look.color, marker=look.marker, markersize=7)
    axes.set_yticks(range(len(estimates)), _broken(estimates))
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", visible=False)


def _broken(arms: Iterable[str]) -> list[str]:
    """Break the labels that would leave the axes beside them too little room."""
    return [wrapped(arm, 0.4 * WIDTH, 10, "normal") for arm in arms]


def _row(height: float, labels: Sequence[str]) -> float:
    """Return the height of a row that has room for any of these labels."""
    return max(height, *(0.2 * (label.count("\n") + 1) for label in labels))


def _room(labels: Sequence[str]) -> float:
    """Return how wide axes are that have these labels beside them."""
    return WIDTH - 0.3 - max(inches(line, 10, "normal") for label in labels for line in label.split("\n"))


__all__ = [
    "Learning",
    "Panel",
    "aggregate_intervals",
    "improvement",
    "learning_curves",
    "normalised_curves",
    "profiles",
]
__all__ += ["update_traces"]

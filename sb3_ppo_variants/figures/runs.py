"""The figure of runs: trust region and return over the training, for one run, several seeds or several algorithms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sb3_ppo_variants.arguments.checks import check_above_one, require
from sb3_ppo_variants.figures.curves import Curve, FloatArray, Line, curve_of, is_logged, target_of
from sb3_ppo_variants.figures.figure_style import (
    BAND,
    GREY,
    HEALTHY_CLIP_FRACTION,
    Look,
    add_legend,
    in_order,
    looks,
    lower_end,
    naming_lower_end,
    new_figure,
    plain_log_axis,
    say,
    steps_axis,
    wrapped,
)
from sb3_ppo_variants.trust_region_log import KL_MEASURES, Table

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from sb3_ppo_variants.figures.shown_figure import ShownFigure

Groups = Mapping[str, Sequence[Table]]

WIDTH = 9.0
"""Inches."""

_TELLTALES = {
    "ppo_penalty": ("beta",),
    "ppo_adaptive_lr": ("lr_scale",),
    "ppo_adaptive_clip": ("clip_scale", "target_kl"),  # a clip_scale alone is of ClipRangeFromClipFraction
    "trpo": ("kl_divergence_loss",),
    "ppo_clip": ("clip_range", "grad_norm"),
    "ppo": ("clip_range",),
}
"""What the updates of an algorithm hold that those of the algorithms below it do not."""


class _Panel(NamedTuple):
    """One of the figure's axes: what it shows of each group; a panel without columns is there only to say so."""

    title: str
    ylabel: str
    columns: dict[str, str]
    missing: str = ""
    log: bool = False
    rounding: float = 0.0  # what is below it is that, unless all is


def plot_trust_region(
    runs: Sequence[Table] | Groups, title: str | None = None, kl_tolerance: float = 1.5
) -> ShownFigure:
    """Draw KL divergence, beta and epsilon, clip fraction and return over time.

    Of several runs of an algorithm the mean and the range from lowest to highest are drawn, over the time steps that
    all of them have: a mean of ever fewer runs would jump where one ends. Beyond, each run is a thin line. Between its
    updates a run is interpolated. The KL is the exact one where it was recorded, else TRPO's, else the sampled one;
    below 1e-8, where it is rounding, it is drawn there. There is a panel for beta only if a run has a beta, and for
    epsilon and the clip fraction only if a run has a clip. What is too low for a logarithmic axis is drawn at its lower
    end, which the title names.

    :param runs: update tables of ``read_trust_region``, which are told apart by what they hold, an algorithm each; or
        label -> tables. A label that is an algorithm's name in rl-zoo3 has its look
    :param title: of the figure; None for a general one
    :param kl_tolerance: half-width of the band drawn around ``target_kl``, as a factor
    :raises ValueError: if there is no run, one without an update, or if runs that are drawn as one have different
        ``target_kl``
    """
    given = [*runs.values()] if isinstance(runs, Mapping) else [runs]
    for tables in given:
        ok = isinstance(tables, Sequence) and not hasattr(tables, "_fields")
        rule = "`runs` must be a list of update tables, or a dictionary of such lists"
        require(ok, rule, type(tables).__name__, "pass [read_trust_region(path).updates]")
    check_above_one("kl_tolerance", kl_tolerance, "1.5 is the default")
    every_run = [run for tables in given for run in tables]
    require(len(every_run) > 0, "`runs` must hold at least one run", 0, "pass [read_trust_region(path).updates]")
    for run in every_run:
        is_table = isinstance(run, Mapping) and "update" in run
        require(
            is_table, "a run must be an update table", type(run).__name__, "read a file with read_trust_region(path)"
        )
        require(len(run["update"]) > 0, "every run must hold an update", 0, "train for at least one update")
    groups = runs if isinstance(runs, Mapping) else _by_algorithm(runs)
    groups = {label: groups[label] for label in in_order({label: label for label in groups}) if groups[label]}
    style = looks({label: label for label in groups})
    panels = _panels(groups)
    targets = {label: target_of(label, tables) for label, tables in groups.items() if is_logged(tables, "target_kl")}
    names = {
        label: label if len(tables) == 1 else f"{label}: mean and range of {len(tables)} runs"
        for label, tables in groups.items()
    }
    with new_figure(WIDTH, 0.8 + 2.1 * len(panels), legend=list(names.values())) as figure:
        every = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        figure.suptitle(wrapped(title or "The trust region over the training", WIDTH - 0.2))
        others = _draw_target(every[0], targets, style, kl_tolerance)
        for axes, panel in zip(every, panels):
            others += _draw(axes, panel, groups, style)
        others = [*{artist.get_label(): artist for artist in others}.values()]
        every[-1].set(xlabel="environment steps")
        steps_axis(every[-1], np.unique(np.concatenate([run["timesteps"] for run in every_run])))
        add_legend(figure, {names[label]: look for label, look in style.items()}, others)
    return figure


def _by_algorithm(runs: Sequence[Table]) -> Groups:
    groups: dict[str, list[Table]] = {}
    for run in runs:
        found = (name for name, columns in _TELLTALES.items() if all(is_logged([run], column) for column in columns))
        groups.setdefault(next(found, "run"), []).append(run)
    return groups


def _panels(groups: Groups) -> list[_Panel]:
    def logged(name: str) -> dict[str, str]:
        return {label: name for label, runs in groups.items() if is_logged(runs, name)}

    best = {label: [name for name in KL_MEASURES if is_logged(runs, name)] for label, runs in groups.items()}
    kl = {label: names[0] for label, names in best.items() if names}
    measured = {name: [label for label in kl if kl[label] == name] for name in KL_MEASURES if name in kl.values()}
    measures = [
        KL_MEASURES[name] if len(measured) == 1 else f"{KL_MEASURES[name]}: {', '.join(labels)}"
        for name, labels in measured.items()
    ]
    clip_range = logged("clip_range")
    clip_fraction = {label: name for label, name in logged("clip_fraction").items() if label in clip_range}
    no_return = "no return was logged: no episode ended in a Monitor"
    panels = [
        _Panel(
            "\n".join(["How far each update moved the policy", *measures]),
            "KL  [nats per state]",
            kl,
            "no KL divergence was logged",
            log=True,
            rounding=1e-8,  # below, as of a policy that has collapsed, it is rounding, negative at times
        ),
        _Panel("What holds it back: β, of the penalty", "β  [surrogate per nat]", logged("beta"), log=True),
        _Panel("What holds it back: ε, the clip range", "ε  [ratio]", clip_range, log=True),
        _Panel("Share of samples outside the clip range", "clip fraction  [0 to 1]", clip_fraction),
        _Panel("What was learned: return of the latest episodes", "return  [reward]", logged("ep_rew_mean"), no_return),
    ]
    return [panel for panel in panels if panel.columns or panel.missing]


def _draw(axes: Axes, panel: _Panel, groups: Groups, style: Mapping[str, Look]) -> list[Artist]:
    curves = {label: curve_of(groups[label], column) for label, column in panel.columns.items()}
    values = np.concatenate([curve.values() for curve in curves.values()]) if curves else np.empty(0)
    end = lower_end(values, panel.rounding) if panel.log else None
    least = -math.inf if end is None else end
    axes.set(title=wrapped(naming_lower_end(panel.title, values, least), WIDTH - 1.3, 11), ylabel=panel.ylabel)
    if not curves:
        say(axes, panel.missing)
        return []
    others: list[Artist] = []
    for label, curve in curves.items():
        others += _draw_curve(axes, label, curve.raised(least), style[label], several=len(groups[label]) > 1)
    if end is not None:
        plain_log_axis(axes)
    if "clip fraction" in panel.ylabel:
        others.append(axes.axhspan(*HEALTHY_CLIP_FRACTION, label="clip fraction that is usually healthy", **BAND))
    return others


def _draw_curve(axes: Axes, label: str, curve: Curve, look: Look, several: bool) -> list[Artist]:
    if several:
        _draw_range(axes, curve, look.color)
    axes.plot(curve.steps, curve.mean, **look._asdict(), markevery=max(1, len(curve.steps) // 25), label=label)
    thin: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.7}
    for steps, values in curve.rests:
        axes.plot(steps, values, color=look.color, marker="." if len(steps) == 1 else "", **thin)
    return [*axes.plot([], [], color=GREY, label="one run, where not all have a value", **thin)] if curve.rests else []


def _draw_range(axes: Axes, curve: Curve, color: str) -> None:
    """Draw what lies between the lowest and the highest run; over one point that is a bar, as an area has no width."""
    if len(curve.steps) == 1:
        axes.vlines(curve.steps, curve.lowest, curve.highest, color=color, alpha=0.4, linewidth=6)
    else:
        axes.fill_between(curve.steps, curve.lowest, curve.highest, color=color, alpha=0.2, linewidth=0)


def _draw_level(axes: Axes, steps: FloatArray, values: FloatArray, **look: Any) -> Line2D:
    """Draw a line; a single value goes over the whole width, or nothing of it would be seen."""
    return axes.axhline(values[0], **look) if len(steps) == 1 else axes.plot(steps, values, **look)[0]


def _draw_target(axes: Axes, targets: Mapping[str, Line], style: Mapping[str, Look], tolerance: float) -> list[Artist]:
    """Draw the target that all groups share, with its band; or, if they have different ones, a line each."""
    if not targets:
        return []
    sharing: dict[tuple[float, ...], list[str]] = {}
    for label, (_, values) in targets.items():
        sharing.setdefault(tuple(np.unique(values.round(9))), []).append(label)
    if len(sharing) > 1:
        for labels in sharing.values():
            _draw_shared(axes, [targets[label] for label in labels], [style[label].color for label in labels])
        look: dict[str, Any] = {"color": "0.45", "linestyle": _dashes(0, 1), "linewidth": 1.2}
        return [*axes.plot([], [], label="target KL of each, in its colour", **look)]
    steps, values = max(targets.values(), key=_last_step)
    label = f"target KL /{tolerance:g} to ×{tolerance:g}"
    line = _draw_level(axes, steps, values, color="0.45", linewidth=1, label="target KL")
    low, high = values / tolerance, values * tolerance
    if len(steps) == 1:
        return [line, axes.axhspan(low[0], high[0], label=label, **BAND)]
    return [line, axes.fill_between(steps, low, high, label=label, **BAND)]


def _draw_shared(axes: Axes, targets: Sequence[Line], colors: Sequence[str]) -> None:
    """Draw one line for runs with one target, the longest one, with dashes in the colour of each by turns."""
    for i, color in enumerate(colors):
        look: dict[str, Any] = {"color": color, "linestyle": _dashes(i, len(colors)), "linewidth": 1.2}
        _draw_level(axes, *max(targets, key=_last_step), **look)


def _last_step(line: Line) -> float:
    return float(line[0][-1])


def _dashes(i: int, n: int) -> tuple[int, tuple[int, int]]:
    """Give the dashes of the i-th of n lines on one place: far apart, which no algorithm's look has."""
    return 10 * i, (5, 10 * n - 5)


__all__ = ["plot_trust_region"]

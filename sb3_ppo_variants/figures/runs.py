"""Figures of the trust region: of the objectives, of a run, and of one update.

Each function takes data and returns a matplotlib Figure, which needs no display and leaves pyplot alone. matplotlib is
an optional dependency, ``pip install "sb3-ppo-variants[plots]"``, and is imported when a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.figures.figure_style import BLUE, GREEN, GREY, VERMILLION, new_figure
from sb3_ppo_variants.trust_region_log import KL_MEASURES, Table
from sb3_ppo_variants.update.update_metrics import UpdateTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

HEALTHY_CLIP_FRACTION = (0.1, 0.4)
"""Share of clipped samples that is usual in runs that learn well: a rule of thumb."""


# ----------------------------------------------------------------------------------------------------------- a run


class _Curve(NamedTuple):
    """One quantity of several runs over the same time steps."""

    steps: FloatArray
    mean: FloatArray
    lowest: FloatArray
    highest: FloatArray


def plot_trust_region(runs: Sequence[Table], title: str | None = None, kl_tolerance: float = 1.5) -> Figure:
    """Draw KL divergence, beta or epsilon, clip fraction and return over time, for one run or for several seeds.

    Of several runs the mean and the range from lowest to highest are drawn; between its updates a run is interpolated.
    The KL is the exact one where it was recorded, else TRPO's, else the sampled one. What no run has logged is said so.

    :param runs: update tables of ``read_trust_region``
    :param title: of the figure; None for one that counts the runs
    :param kl_tolerance: half-width of the band drawn around ``target_kl``, as a factor
    :raises ValueError: if there is no run, or one without an update
    """
    require(len(runs) > 0, "`runs` must hold at least one run", 0, "pass the updates of read_trust_region(path)")
    for run in runs:
        require(len(run["update"]) > 0, "every run must hold an update", 0, "train for at least one update")
    figure = new_figure(9, 9.5)
    panels = figure.subplots(4, 1, sharex=True)
    count = "one run" if len(runs) == 1 else f"mean and range of {len(runs)} runs"
    figure.suptitle(title or f"The trust region over training: {count}", fontsize=13)

    kl = next((name for name in KL_MEASURES if _logged(runs, name)), "")
    if kl and _logged(runs, "target_kl"):
        target = _curve(runs, "target_kl")
        low, high = target.mean / kl_tolerance, target.mean * kl_tolerance
        label = f"target /{kl_tolerance:g} to ×{kl_tolerance:g}"
        panels[0].fill_between(target.steps, low, high, label=label, **_BAND)
        panels[0].plot(target.steps, target.mean, "--", color=GREEN, linewidth=1.2, label="target")
    _draw_runs(panels[0], runs, kl, BLUE, "o", "no KL divergence was logged", scale="log")
    panels[0].set(
        title=f"How far each update moved the policy{': ' * bool(kl)}{KL_MEASURES.get(kl, '')}",
        ylabel="KL  [nats per state]",
    )

    coefficient = "beta" if _logged(runs, "beta") else "clip_range"
    what, unit = ("β, of the penalty", "surrogate per nat") if coefficient == "beta" else ("ε, the clip range", "ratio")
    _draw_runs(panels[1], runs, coefficient, VERMILLION, "s", "neither β nor a clip range was logged", scale="log")
    panels[1].set(title=f"What holds it back: {what}", ylabel=f"{what[0]}  [{unit}]")

    clipped = "clip_fraction" if _logged(runs, "clip_range") and _logged(runs, "clip_fraction") else ""
    if clipped:
        panels[2].axhspan(*HEALTHY_CLIP_FRACTION, label="usually healthy", **_BAND)
    _draw_runs(panels[2], runs, clipped, BLUE, "^", "there is no clip")
    panels[2].set(title="Share of samples outside the clip range", ylabel="clip fraction  [0 to 1]")

    _draw_runs(panels[3], runs, "ep_rew_mean", "black", "D", "no return was logged: no episode ended in a Monitor")
    panels[3].set(title="What was learned: mean return of the latest episodes", ylabel="return  [reward]")
    panels[3].set(xlabel="environment steps")
    _finish(panels, np.unique(np.concatenate([run["timesteps"] for run in runs])))
    return figure


_BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "fontsize": 8, "frameon": False}
_BAND: dict[str, Any] = {"color": GREEN, "alpha": 0.18, "linewidth": 0}


def _finish(panels: Sequence[Axes], steps: FloatArray) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

    for panel in panels:
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[1]:
            panel.legend(**_BESIDE)
        if panel.get_yscale() == "log":
            low, high = panel.get_ylim()
            middle, half = np.sqrt(low * high), max(np.sqrt(high / low), 3.0)  # at least two labelled ticks
            panel.set_ylim(middle / half, middle * half)
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
    panels[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(steps) == 1:
        panels[-1].set_xticks(steps)


def _logged(runs: Sequence[Table], name: str) -> bool:
    return any(bool(np.isfinite(run[name]).any()) for run in runs)


def _curve(runs: Sequence[Table], name: str) -> _Curve:
    steps = np.unique(np.concatenate([run["timesteps"] for run in runs]))
    values = []
    for run in runs:
        known = np.isfinite(run[name])
        if known.any():
            x, y = run["timesteps"][known], run[name][known]
            values.append(np.interp(steps, x, y, left=np.nan, right=np.nan))
    table = np.array(values)
    some = np.isfinite(table).any(axis=0)
    table, steps = table[:, some], steps[some]
    return _Curve(steps, np.nanmean(table, axis=0), np.nanmin(table, axis=0), np.nanmax(table, axis=0))


def _draw_runs(
    axes: Axes, runs: Sequence[Table], name: str, colour: str, marker: str, missing: str, scale: str = "linear"
) -> None:
    if not name or not _logged(runs, name):
        _say(axes, missing)
        return
    curve = _curve(runs, name)
    if scale == "log" and (curve.lowest > 0).all():
        axes.set_yscale("log")
    if len(runs) > 1:
        axes.fill_between(curve.steps, curve.lowest, curve.highest, color=colour, alpha=0.2, linewidth=0, label="range")
    every = max(1, len(curve.steps) // 25)
    label = "mean" if len(runs) > 1 else None
    axes.plot(curve.steps, curve.mean, color=colour, marker=marker, markersize=4, markevery=every, label=label)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_yticks([])


# ------------------------------------------------------------------------------------------------------ one update


def plot_update(trace: UpdateTrace, title: str | None = None) -> Figure:
    """Draw KL and clip fraction of every minibatch of one update, with their means in each epoch.

    Each is measured before the minibatch's optimiser step. The KL is the exact one where the update needed it, else the
    sampled estimate.

    :param trace: ``model.last_update``, or ``update_trace`` of a file that was recorded with minibatches
    :param title: of the figure; None for one that says how the update ended
    :raises ValueError: if the update has no minibatch
    """
    require(len(trace.epoch) > 0, "`trace` must hold a minibatch", 0, "pass model.last_update after an update")
    exact = trace.column("kl_divergence")[trace.taken]
    is_exact = bool(np.isfinite(exact).all() and exact.any())
    figure = new_figure(9.5, 6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    how = "stopped early after" if trace.stopped else "of"
    figure.suptitle(title or f"Inside one update {how} {trace.epochs_done:.3g} epochs", fontsize=13)

    _draw_minibatches(upper, trace, "kl_divergence" if is_exact else "approx_kl", BLUE, "o")
    if np.isfinite(trace.kl_divergence):
        label = f"after the update: {trace.kl_divergence:.2g}\n(whole rollout)"
        upper.plot(len(trace.epoch) + 1, trace.kl_divergence, "*", color="black", markersize=11, label=label)
    target = trace.coefficients[0].get("target_kl") if trace.coefficients else None
    if target is not None:
        upper.axhline(float(target), color=GREEN, linestyle="--", label=f"target {float(target):g}")
    kind = "exact" if is_exact else "sampled estimate"
    upper.set(title=f"Distance from the old policy: KL of each minibatch ({kind})", ylabel="KL  [nats per state]")

    if any(np.isfinite(float(epoch.get("clip_range", np.inf))) for epoch in trace.coefficients):
        lower.axhspan(*HEALTHY_CLIP_FRACTION, label="usually healthy\n(mean of the update)", **_BAND)
        _draw_minibatches(lower, trace, "clip_fraction", VERMILLION, "s")
    else:
        _say(lower, "there is no clip")
    lower.set(title="Share of each minibatch outside the clip range", ylabel="clip fraction  [0 to 1]")
    lower.set(xlabel="minibatch of the update  (dotted lines: a new epoch)")
    for axes in (upper, lower):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(**_BESIDE)
    return figure


def _draw_minibatches(axes: Axes, trace: UpdateTrace, name: str, colour: str, marker: str) -> None:
    values = np.where(trace.taken, trace.column(name), np.nan)
    x = np.arange(1, len(values) + 1)
    axes.plot(x, values, color=colour, linewidth=0.8, alpha=0.6, label="minibatch")
    centres, means = [], []
    for epoch in np.unique(trace.epoch):
        inside = trace.epoch == epoch
        centres.append(x[inside].mean())
        means.append(trace.column(name)[inside & trace.taken].mean() if trace.taken[inside].any() else np.nan)
        if epoch > 0:
            axes.axvline(x[inside][0] - 0.5, color="0.6", linestyle=":", linewidth=1, zorder=0)
    axes.plot(centres, means, color=colour, marker=marker, markeredgecolor="black", linestyle="-", label="epoch mean")
    axes.grid(alpha=0.3, axis="y")


__all__ = ["HEALTHY_CLIP_FRACTION", "plot_trust_region", "plot_update"]

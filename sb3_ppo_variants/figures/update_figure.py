"""The figure of one update: KL divergence and clip fraction of its minibatches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_ppo_variants.arguments.checks import require
from sb3_ppo_variants.figures.figure_style import BAND, BLUE, HEALTHY_CLIP_FRACTION, add_legend, new_figure, wrapped
from sb3_ppo_variants.update.update_metrics import UpdateTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sb3_ppo_variants.figures.shown_figure import ShownFigure


def plot_update(trace: UpdateTrace | None, title: str | None = None) -> ShownFigure:
    """Draw KL and, if there is a clip, clip fraction of every minibatch of one update, with their means in each epoch.

    Each is measured before the minibatch's optimiser step. The KL is the exact one where the update needed it, else the
    sampled estimate. A filled star is the KL after the update; if the policy was taken back to ``max_kl``, an open one
    is the KL before.

    :param trace: ``model.last_update``, which is None before the first update, or ``update_trace`` of a file that was
        recorded with minibatches
    :param title: of the figure; None for one that says how the update ended
    :raises ValueError: if the update has no minibatch
    """
    n_minibatches = 0 if trace is None else len(trace.epoch)
    require(n_minibatches > 0, "`trace` must hold a minibatch", n_minibatches, "pass model.last_update after an update")
    assert trace is not None
    exact = trace.column("kl_divergence")[trace.taken]
    is_exact = bool(np.isfinite(exact).all() and exact.any())
    clipped = any(np.isfinite(float(epoch.get("clip_range", np.inf))) for epoch in trace.coefficients)
    with new_figure(9.5, 6 if clipped else 3.6) as figure:
        panels = figure.subplots(2 if clipped else 1, 1, sharex=True, squeeze=False)[:, 0]
        how = "stopped early after" if trace.stopped else "of"
        general = f"Inside one update {how} {trace.epochs_done:.3g} {'epoch' if trace.epochs_done == 1 else 'epochs'}"
        figure.suptitle(wrapped(title or general, figure.get_figwidth() - 0.2))
        _draw_minibatches(panels[0], trace, "kl_divergence" if is_exact else "approx_kl")
        _draw_ends(panels[0], trace)
        target = trace.coefficients[0].get("target_kl") if trace.coefficients else None
        if target is not None:
            panels[0].axhline(float(target), color="0.45", linestyle="--", label=f"target KL {float(target):g}")
        kind = "exact" if is_exact else "sampled estimate"
        title_of_kl = f"Distance from the old policy: KL of each minibatch ({kind})"
        panels[0].set(title=title_of_kl, ylabel="KL  [nats per state]")
        if clipped:
            healthy = "clip fraction that is usually healthy (mean of the update)"
            panels[1].axhspan(*HEALTHY_CLIP_FRACTION, label=healthy, **BAND)
            _draw_minibatches(panels[1], trace, "clip_fraction")
            panels[1].set(title="Share of each minibatch outside the clip range", ylabel="clip fraction  [0 to 1]")
        panels[-1].locator_params(axis="x", integer=True, min_n_ticks=1)
        panels[-1].set(xlabel="minibatch of the update  (dotted lines: a new epoch)")
        found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
        add_legend(figure, {}, found.values())
    return figure


def _draw_ends(axes: Axes, trace: UpdateTrace) -> None:
    """Mark the KL after the update, and before the projection if the policy was taken back."""
    mark: dict[str, Any] = {"color": "black", "markersize": 11, "linestyle": "none", "zorder": 3}
    x, end, before = len(trace.epoch) + 1, trace.kl_divergence, trace.kl_before_projection
    if trace.projection < 1 and np.isfinite(before):
        label = f"before the projection: {before:.2g}; {trace.projection:.0%} of the step is kept"
        axes.plot(x, before, marker="*", fillstyle="none", label=label, **mark)
        axes.annotate("", (x, end), (x, before), arrowprops={"arrowstyle": "->", "color": "0.4", "linestyle": "--"})
    if np.isfinite(end):
        axes.plot(x, end, marker="*", label=f"after the update: {end:.2g} (whole rollout)", **mark)


def _draw_minibatches(axes: Axes, trace: UpdateTrace, name: str) -> None:
    values = np.where(trace.taken, trace.column(name), np.nan)
    x = np.arange(1, len(values) + 1)
    if np.bincount(trace.epoch[np.isfinite(values)]).max(initial=0) > 1:  # an epoch's only one is its mean
        axes.plot(x, values, color=BLUE, linewidth=0.8, alpha=0.6, label="minibatch")
    centres, means = [], []
    for epoch in np.unique(trace.epoch):
        inside = trace.epoch == epoch
        centres.append(x[inside].mean())
        means.append(trace.column(name)[inside & trace.taken].mean() if trace.taken[inside].any() else np.nan)
        if epoch > 0:
            axes.axvline(x[inside][0] - 0.5, color="0.6", linestyle=":", linewidth=1, zorder=0)
    axes.plot(centres, means, color=BLUE, marker="o", markeredgecolor="black", linestyle="-", label="epoch mean")
    axes.grid(axis="x", visible=False)


__all__ = ["plot_update"]

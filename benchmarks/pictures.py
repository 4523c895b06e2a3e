"""The figures of docs/trust_region_in_pictures.md: the six cases of the clip, and short runs that are well and ill.

    python benchmarks/pictures.py --out docs/figures

CartPole-v1, 4 environments, 512 steps each, everything that a title does not name at the classes' defaults. What the
page says of the runs is printed. Takes two to three minutes on one core.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from recorded_runs import one_quiet_thread, record_updates
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty
from sb3_ppo_variants.figures.figure_style import (
    BAND,
    BLUE,
    GREY,
    HEALTHY_CLIP_FRACTION,
    VERMILLION,
    add_legend,
    looks,
    new_figure,
    plain_log_axis,
    steps_axis,
)
from sb3_ppo_variants.plots import plot_trust_region
from sb3_ppo_variants.trust_region_log import Table
from sb3_ppo_variants.update.losses import clipped_surrogate

TARGET = 0.02  # the default
LEAST_KL = 1e-6  # of what is drawn: a policy that has collapsed is not moved at all any more
STEPS = 60_000
ILL: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "learning rate too high\nPPOClip, 0.02": ("ppo_clip", PPOClip, {"learning_rate": 0.02}),
    "learning rate too low\nPPOAdaptiveClip, 0.00001": ("ppo_adaptive_clip", PPOAdaptiveClip, {"learning_rate": 1e-5}),
    "clip range too small\nPPOClip, 0.002": ("ppo_clip", PPOClip, {"clip_range": 0.002, "learning_rate": 1e-3}),
    "target too small\nPPOPenalty, 0.00003": ("ppo_penalty", PPOPenalty, {"target_kl": 3e-5}),
}


def run(cls: Any, seed: int, **arguments: Any) -> Table:
    """Train once and return the table of its updates."""
    env = make_vec_env("CartPole-v1", n_envs=4, seed=seed)
    model = cls("MlpPolicy", env, n_steps=512, seed=seed, device="cpu", **arguments)
    return record_updates(model, STEPS)


def draw_cases(out: Path) -> None:
    """Draw the clipped objective six times, for a good and a bad action and the three places of its ratio."""
    low, high = 0.8, 1.2
    places = [(0.6, low, "r < 1 − ε"), (low, high, "1 − ε ≤ r ≤ 1 + ε"), (high, 1.4, "r > 1 + ε")]
    with new_figure(11, 6) as figure:
        every = figure.subplots(2, 3, sharex=True, sharey="row")
        figure.suptitle("The six cases of the clip, ε = 0.2: where a sample still pulls the policy")
        for row, (advantage, color) in enumerate([(1.0, BLUE), (-1.0, VERMILLION)]):
            for axes, (left, right, name) in zip(every[row], places):
                ratio = th.linspace(0.6, 1.4, 401)
                axes.plot(ratio, _objective(ratio, advantage, low, high), color="0.75", linewidth=1.5)
                here = th.linspace(left, right, 101)
                axes.plot(here, _objective(here, advantage, low, high), color=color, linewidth=3.5)
                for x in (low, high):
                    axes.axvline(x, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
                flat = (advantage > 0 and left == high) or (advantage < 0 and right == low)
                middle = (left + right) / 2
                y = float(_objective(th.tensor([middle]), advantage, low, high))
                if flat:
                    axes.plot(middle, y, "o", color="black", markersize=7)
                else:  # towards a larger objective
                    step = 0.07 if advantage > 0 else -0.07
                    arrow = {"arrowstyle": "-|>", "linewidth": 2, "color": "black", "mutation_scale": 16}
                    axes.annotate("", (middle + step, y + abs(step)), (middle - step, y - abs(step)), arrowprops=arrow)
                kind = "good action, A > 0" if advantage > 0 else "bad action, A < 0"
                axes.set_title(f"{kind};  {name}\n{'flat: no gradient' if flat else 'pulls along the arrow'}")
                axes.grid(visible=False)
        for axes in every[1]:
            axes.set_xlabel("ratio r = new / old probability  [–]")
        for axes in every[:, 0]:
            axes.set_ylabel("objective  [unit of A]")
        figure.savefig(out / "clip_cases.png", dpi=110)


def _objective(ratio: th.Tensor, advantage: float, low: float, high: float) -> th.Tensor:
    return clipped_surrogate(ratio, th.full_like(ratio, advantage), 1 - low, high - 1)


def draw_well(out: Path, seeds: int) -> None:
    """Draw runs of both adaptive classes at their defaults."""
    classes = {"ppo_penalty": PPOPenalty, "ppo_adaptive_clip": PPOAdaptiveClip}
    groups = {name: [run(cls, seed) for seed in range(seeds)] for name, cls in classes.items()}
    title = "Healthy: CartPole-v1 at the default settings"
    plot_trust_region(groups, title=title).savefig(out / "healthy.png", dpi=110)
    for name, tables in groups.items():
        for column in ("kl_divergence", "kl_before_projection", "projection", "clip_fraction", "beta", "clip_range"):
            _say(name, column, np.concatenate([table[column] for table in tables]))
        _say(name, "return at the end", np.array([table["ep_rew_mean"][-1] for table in tables]))


def draw_ill(out: Path) -> None:
    """Draw one run for each way of being ill."""
    style = looks({name: name for name, _, _ in ILL.values()})
    rows = {"kl_divergence": "KL  [nats per state]", "clip_fraction": "clip fraction  [0 to 1]"}
    rows |= {"ep_rew_mean": "return  [reward]"}
    with new_figure(13, 7.5, legend=[*style]) as figure:
        every = figure.subplots(len(rows), len(ILL), sharex=True, sharey="row")
        figure.suptitle("Not healthy: CartPole-v1, one seed each")
        for place, (title, (name, cls, arguments)) in enumerate(ILL.items()):
            table = run(cls, 0, **arguments)
            for axes, column in zip(every[:, place], rows):
                values = np.maximum(table[column], LEAST_KL) if column == "kl_divergence" else table[column]
                if np.isfinite(values).any():
                    axes.plot(table["timesteps"], values, **style[name]._asdict(), markevery=3)
                _say(title.replace("\n", ": "), column, table[column])
            for column in ("beta", "clip_range", "projection", "saturated"):
                if np.isfinite(table[column]).any():
                    _say(title.replace("\n", ": "), column, table[column])
            if name == "ppo_penalty":
                every[1, place].text(0.5, 0.5, "no clip", transform=every[1, place].transAxes, ha="center", color=GREY)
            every[0, place].set_title(title)
            steps_axis(every[-1, place])
            every[-1, place].set_xlabel("environment steps")
        for axes, label in zip(every[:, 0], rows.values()):
            axes.set_ylabel(label)
        plain_log_axis(every[0, 0])
        bands = "upper row: 0.02, the default target, /1.5 to ×1.5; middle row: a usually healthy clip fraction"
        for axes in every[0]:
            band = axes.axhspan(TARGET / 1.5, TARGET * 1.5, label=bands, **BAND)
        for axes in every[1]:
            axes.axhspan(*HEALTHY_CLIP_FRACTION, **BAND)
        add_legend(figure, style, [band])
        figure.savefig(out / "unhealthy.png", dpi=110)


def draw_projection(out: Path) -> None:
    """Draw the KL before and after the projection of a run whose learning rate is far too high."""
    table = run(PPOPenalty, 0, learning_rate=2e-2)
    with new_figure(9, 5) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        figure.suptitle("The projection: PPOPenalty on CartPole-v1, learning rate 0.02 (too high)")
        steps = table["timesteps"]
        upper.plot(steps, table["kl_before_projection"], "o:", color=GREY, markerfacecolor="white", label="before")
        upper.plot(steps, table["kl_divergence"], "s-", color=BLUE, label="after")
        upper.axhline(TARGET, color="0.45", linestyle="--", linewidth=1)
        upper.set(ylabel="KL  [nats per state]", title="KL of every update, before and after")
        plain_log_axis(upper)
        upper.legend()
        lower.plot(steps, table["projection"], "s-", color=BLUE)
        lower.set(ylabel="share kept  [0 to 1]", xlabel="environment steps", ylim=(0, 1.05))
        lower.set_title("What is kept of the policy's step")
        steps_axis(lower)
        figure.savefig(out / "projection.png", dpi=110)
    for column in ("kl_before_projection", "kl_divergence", "projection", "ep_rew_mean"):
        _say("projection", column, table[column])


def _say(title: str, column: str, values: Any) -> None:
    known = values[np.isfinite(values)]
    if len(known):
        low, middle, high = np.quantile(known, [0.05, 0.5, 0.95])
        last = f"last {known[-1]:.4g}, largest {known.max():.4g}"
        print(f"{title:52}{column:22} 5 % {low:.4g}, median {middle:.4g}, 95 % {high:.4g}, {last}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--seeds", type=int, default=3, help="of the healthy runs: seeds 0 to n - 1")
    figures = ("cases", "well", "ill", "projection")
    parser.add_argument("--only", nargs="+", choices=figures, default=figures, help="draw some of them (all)")
    args = parser.parse_args()
    one_quiet_thread()
    if "cases" in args.only:
        draw_cases(args.out)
    if "well" in args.only:
        draw_well(args.out, args.seeds)
    if "ill" in args.only:
        draw_ill(args.out)
    if "projection" in args.only:
        draw_projection(args.out)


if __name__ == "__main__":
    main()

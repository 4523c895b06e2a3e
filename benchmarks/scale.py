"""How the cost per step grows with environments, batch size, network width and rollout length, against stock PPO.

    python benchmarks/scale.py --out docs/figures/scale      # writes scale.json and scale.png

One axis is varied at a time around: Pendulum-v1, 4 environments, 256 steps each, batch 64, two layers of 64, 4 epochs.
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, ScalarFormatter
from recorded_runs import one_quiet_thread
from speed import Contender
from speed_settings import Setting

BASE = {"n_envs": 4, "n_steps": 256, "batch_size": 64, "width": 64}
AXES = {
    "n_envs": ("parallel environments", [1, 2, 4, 8, 16, 32, 64]),
    "batch_size": ("batch size", [32, 64, 128, 256, 512, 1024]),
    "width": ("width of both hidden layers", [64, 128, 256, 512, 1024]),
    "n_steps": ("rollout length (steps per environment)", [64, 128, 256, 512, 1024, 2048]),
}


def measure(
    accelerations: list[str], repeats: int, n_envs: int, n_steps: int, batch_size: int, width: int
) -> dict[str, list[float]]:
    """Return microseconds per environment step of each contender, one figure per turn."""
    arguments = {"policy_kwargs": {"net_arch": [width] * 2}}
    setting = Setting("Pendulum-v1", "MlpPolicy", n_envs, n_steps, batch_size, 4, 1, arguments=arguments)
    contenders = {"stock": Contender("stock", setting, "cpu", seed=0)}
    contenders |= {name: Contender(f"PPOClip {name}", setting, "cpu", seed=0) for name in accelerations}
    microseconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, contender in contenders.items():
            seconds = contender.train(1)
            if repeat > 0:  # the first turn warms up
                microseconds[name].append(1e6 * seconds / contender.steps_per_update)
    return microseconds


def plot(results: dict[str, dict[str, dict[str, list[float]]]], path: Path) -> None:
    """Draw cost per step over each axis, with the ratio to stock PPO written at each point of the fast path."""
    styles = {"stock": ("o", "-", "#444444"), "eager": ("s", "--", "#0072b2"), "compile": ("^", "-.", "#d55e00")}
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), constrained_layout=True)
    for axis, (key, (label, _)) in zip(axes.flat, AXES.items()):
        table = results[key]
        xs = [int(x) for x in table]
        for name in next(iter(table.values())):
            marker, line, colour = styles[name]
            ys = [statistics.median(table[str(x)][name]) for x in xs]
            label_of = "stock SB3 PPO" if name == "stock" else f"PPOClip {name}"
            axis.plot(xs, ys, marker=marker, linestyle=line, color=colour, label=label_of)
            if name == "eager":
                for x, y in zip(xs, ys):
                    ratio = statistics.median(s / o for s, o in zip(table[str(x)]["stock"], table[str(x)][name]))
                    axis.annotate(
                        f"{ratio:.1f}x", (x, y), textcoords="offset points", xytext=(0, -14), ha="center", fontsize=8
                    )
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="microseconds per environment step")
        axis.set_xticks(xs, [str(x) for x in xs])
        axis.minorticks_off()
        low, high = axis.get_ylim()
        axis.set_ylim(0.75 * low, high)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ScalarFormatter())
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.suptitle("Cost of training per step, environment included (Pendulum-v1, one CPU thread)")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns per contender; the median is drawn")
    parser.add_argument("--accelerations", nargs="+", default=["eager"], choices=["off", "eager", "compile"])
    parser.add_argument("--out", type=Path, required=True, help="path without ending")
    args = parser.parse_args()
    one_quiet_thread()
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for key, (_, values) in AXES.items():
        results[key] = {}
        for value in values:
            timed = measure(args.accelerations, args.repeats, **{**BASE, key: value})
            results[key][str(value)] = timed
            row = "  ".join(f"{name} {statistics.median(times):7.1f}" for name, times in timed.items())
            ratios = [
                statistics.median(s / o for s, o in zip(timed["stock"], timed[name])) for name in args.accelerations
            ]
            print(f"{key:11}{value:6}  us/step: {row}  ratio " + " ".join(f"{r:.2f}" for r in ratios), flush=True)
    args.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()

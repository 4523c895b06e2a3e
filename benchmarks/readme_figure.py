"""README's first figure: KL and return of stock PPO and the adaptive classes, at an ordinary and a high learning rate.

    python benchmarks/readme_figure.py --runs docs/results/readme_figure.jsonl --out docs/figures/variants.png

CartPole-v1, 4 environments, 512 steps each, everything else at the classes' defaults. Stock PPO is
``PPOClip(value_clipping="sb3")``, which makes stock PPO's updates, to rounding, and measures their exact KL
(tests/algorithms/test_equivalence.py, tests/fast_path/test_acceleration.py). One line per run; a run that is in the
file already is not repeated, so that the figure can be drawn again without training. The table of what the caption says
is printed.
"""

import argparse
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import UpdateCallback
from sb3_ppo_variants.figures.figure_style import BAND, add_legend, looks, new_figure, plain_log_axis, steps_axis

TARGET = 0.01
LEAST = {"kl": 1e-4, "return": 0.0}  # of what is drawn: a policy that has collapsed is not moved at all any more
RATES = {3e-4: "learning rate 0.0003 (default)", 2e-2: "learning rate 0.02 (too high)"}
CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (PPOClip, {"value_clipping": "sb3"}),
    "ppo_penalty": (PPOPenalty, {"target_kl": TARGET}),
    "ppo_adaptive_clip": (PPOAdaptiveClip, {"target_kl": TARGET}),
}
NAMES = {"ppo": "stock PPO", "ppo_penalty": "PPOPenalty", "ppo_adaptive_clip": "PPOAdaptiveClip"}
Array = npt.NDArray[np.float64]


class Watch(UpdateCallback):
    """Keeps step, KL and mean return of the last 100 episodes of every update."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, float, float]] = []

    def _on_update(self, logged: Mapping[str, Any]) -> None:
        episodes = [episode["r"] for episode in self.model.ep_info_buffer or []]
        self.found.append((self.num_timesteps, float(logged["train/kl_divergence"]), float(np.mean(episodes))))


def run(algorithm: str, rate: float, seed: int, steps: int) -> dict[str, Any]:
    """Train once and return what the figure shows of it."""
    cls, arguments = CLASSES[algorithm]
    env = make_vec_env("CartPole-v1", n_envs=4, seed=seed)
    watch = Watch()
    model = cls("MlpPolicy", env, n_steps=512, learning_rate=rate, seed=seed, device="cpu", **arguments)
    model.learn(steps, callback=watch)
    columns = dict(zip(("timesteps", "kl", "return"), zip(*watch.found)))
    return {"algorithm": algorithm, "learning_rate": rate, "seed": seed, "steps": steps, **columns}


def table(runs: list[dict[str, Any]], name: str) -> Array:
    """Return one column of several runs, shape (n_runs, n_updates)."""
    return np.array([found[name] for found in runs], dtype=np.float64)


def draw(groups: dict[tuple[str, float], list[dict[str, Any]]], out: Path) -> None:
    style = {NAMES[label]: look for label, look in looks({name: name for name in NAMES}).items()}
    with new_figure(10, 5.2, legend=list(style)) as figure:
        axes = figure.subplots(2, 2, sharex=True, sharey="row")
        seeds = len(next(iter(groups.values())))
        several = f"median and range of {seeds} seeds" if seeds > 1 else "one seed"
        figure.suptitle(f"CartPole-v1: how far each update moves the policy, and the return; {several}")
        for column, (rate, title) in enumerate(RATES.items()):
            band = axes[0, column].axhspan(TARGET / 1.5, TARGET * 1.5, label="target KL 0.01, /1.5 to ×1.5", **BAND)
            for (algorithm, of), runs in groups.items():
                if of == rate:
                    look = style[NAMES[algorithm]]
                    for row, name in enumerate(("kl", "return")):
                        x, y = table(runs, "timesteps")[0], np.maximum(table(runs, name), LEAST[name])
                        line: dict[str, Any] = {"color": look.color, "linestyle": look.dashes, "marker": look.marker}
                        axes[row, column].fill_between(x, y.min(0), y.max(0), color=look.color, alpha=0.15, linewidth=0)
                        axes[row, column].plot(x, np.median(y, axis=0), **line, markevery=3)
            axes[0, column].set(title=title)
            axes[1, column].set(xlabel="environment steps")
            steps_axis(axes[1, column])
        axes[0, 0].set(ylabel="exact KL  [nats per state]")
        axes[1, 0].set(ylabel="return  [reward]")
        plain_log_axis(axes[0, 0])
        add_legend(figure, style, [band])
        figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to n - 1")
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--runs", type=Path, required=True, help="file of the runs, one line each")
    parser.add_argument("--out", type=Path, required=True, help="file of the figure")
    args = parser.parse_args()
    th.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    lines = args.runs.read_text().splitlines() if args.runs.exists() else []
    found = {(r["algorithm"], r["learning_rate"], r["seed"], r["steps"]): r for r in map(json.loads, lines)}
    for seed in range(args.seeds):
        for rate in RATES:
            for algorithm in CLASSES:
                cell = (algorithm, rate, seed, args.steps)
                if cell not in found:
                    found[cell] = run(*cell)
                    with args.runs.open("a") as file:
                        file.write(json.dumps(found[cell]) + "\n")
    groups = {
        (algorithm, rate): [found[algorithm, rate, seed, args.steps] for seed in range(args.seeds)]
        for rate in RATES
        for algorithm in CLASSES
    }
    print(f"{'':44}{'KL median':>10}{'KL largest':>11}{'return at the end: median, lowest, highest':>45}")
    for (algorithm, rate), runs in groups.items():
        kl, last = table(runs, "kl"), table(runs, "return")[:, -1]
        ends = f"{np.median(last):.0f}, {last.min():.0f}, {last.max():.0f}"
        print(f"{NAMES[algorithm]:17}{RATES[rate]:27}{np.median(kl):10.4f}{kl.max():11.4f}{ends:>45}")
    draw(groups, args.out)


if __name__ == "__main__":
    main()

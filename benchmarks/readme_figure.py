"""README's first figure: KL and return of stock PPO and the adaptive classes, at an ordinary and a high learning rate.

    python benchmarks/readme_figure.py --runs docs/results/readme_figure.jsonl --out docs/figures/variants.png

CartPole-v1, 4 environments, 512 steps each, everything else at the classes' defaults. Stock PPO is
``PPOClip(value_clipping="sb3")``, which makes stock PPO's updates, to rounding, and measures their exact KL
(tests/algorithms/test_equivalence.py, tests/fast_path/test_acceleration.py). One line per run; a run that is in the
file already is not repeated, so that the figure can be drawn again without training. The table of what the caption says
is printed.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from recorded_runs import Row, record_updates, run_missing
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOAdaptiveClip, PPOClip, PPOPenalty
from sb3_ppo_variants.figures.figure_style import add_legend, looks, new_figure, plain_log_axis, steps_axis

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


def run(algorithm: str, learning_rate: float, seed: int, steps: int) -> Row:
    """Train once and return what the figure shows of it."""
    cls, arguments = CLASSES[algorithm]
    env = make_vec_env("CartPole-v1", n_envs=4, seed=seed)
    model = cls("MlpPolicy", env, n_steps=512, learning_rate=learning_rate, seed=seed, device="cpu", **arguments)
    updates = record_updates(model, steps)
    columns = {"timesteps": "timesteps", "kl": "kl_divergence", "return": "ep_rew_mean"}
    return {name: updates[column].tolist() for name, column in columns.items()}


def table(runs: list[Row], name: str) -> Array:
    """Return one column of several runs, shape (n_runs, n_updates)."""
    return np.array([found[name] for found in runs], dtype=np.float64)


def draw(groups: dict[tuple[str, float], list[Row]], out: Path) -> None:
    style = {NAMES[label]: look for label, look in looks({name: name for name in NAMES}).items()}
    with new_figure(10, 5.2, legend=list(style)) as figure:
        axes = figure.subplots(2, 2, sharex=True, sharey="row")
        seeds = len(next(iter(groups.values())))
        several = f"median and range of {seeds} seeds" if seeds > 1 else "one seed"
        figure.suptitle(f"CartPole-v1: how far each update moves the policy, and the return; {several}")
        for column, (rate, title) in enumerate(RATES.items()):
            bound = axes[0, column].axhline(TARGET, color="crimson", linewidth=1, label="target_kl 0.01, the bound")
            for (algorithm, of), runs in groups.items():
                if of == rate:
                    look = style[NAMES[algorithm]]
                    for row, name in enumerate(("kl", "return")):
                        x, y = table(runs, "timesteps")[0], np.maximum(table(runs, name), LEAST[name])
                        axes[row, column].fill_between(x, y.min(0), y.max(0), color=look.color, alpha=0.15, linewidth=0)
                        axes[row, column].plot(x, np.median(y, axis=0), **look._asdict(), markevery=3)
            axes[0, column].set(title=title)
            axes[1, column].set(xlabel="environment steps")
            steps_axis(axes[1, column])
        axes[0, 0].set(ylabel="exact KL, from 0.0001 up\n[nats per state]")
        axes[1, 0].set(ylabel="return  [reward]")
        plain_log_axis(axes[0, 0])
        add_legend(figure, style, [bound])
        figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to n - 1")
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--runs", type=Path, required=True, help="file of the runs, one line each")
    parser.add_argument("--out", type=Path, required=True, help="file of the figure")
    args = parser.parse_args()
    order = itertools.product(range(args.seeds), RATES, CLASSES)
    cells = [{"algorithm": name, "learning_rate": rate, "seed": s, "steps": args.steps} for s, rate, name in order]
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in run_missing(args.runs, cells, run):
        groups.setdefault((row["algorithm"], row["learning_rate"]), []).append(row)
    print(f"{'':44}{'KL median':>10}{'KL largest':>11}{'return at the end: median, lowest, highest':>45}")
    for (algorithm, rate), runs in groups.items():
        kl, last = table(runs, "kl"), table(runs, "return")[:, -1]
        ends = f"{np.median(last):.0f}, {last.min():.0f}, {last.max():.0f}"
        print(f"{NAMES[algorithm]:17}{RATES[rate]:27}{np.median(kl):10.4f}{kl.max():11.4f}{ends:>45}")
    draw(groups, args.out)


if __name__ == "__main__":
    main()

"""What the exercises share: options, a training with a record of every update, and curves."""

import argparse
import itertools
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_ppo_variants.callbacks import TrustRegionRecorder
from sb3_ppo_variants.trust_region_log import Table, read_trust_region


class Run(NamedTuple):
    """One training.

    :param updates: the table of its updates
    :param returns: of the last 20 episodes, shape (n_episodes,)
    :param seconds: of processor time
    """

    updates: Table
    returns: Any
    seconds: float


def options(description: str | None, timesteps: int) -> argparse.Namespace:
    """Read the options that every exercise has.

    :param description: of the exercise
    :param timesteps: default of ``--timesteps``
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=timesteps, help="environment steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    parser.add_argument("--figure", type=Path, help="file to draw the curves into, .png, .svg or .pdf")
    th.set_num_threads(1)
    return parser.parse_args()


def train(model: OnPolicyAlgorithm, timesteps: int) -> Run:
    """Train a model and return what happened.

    :param model: of this package, of Stable-Baselines3 or of sb3-contrib
    :param timesteps: environment steps
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        model.learn(timesteps, callback=TrustRegionRecorder(Path(folder) / "run.csv"))
        seconds = time.process_time() - start
        updates = read_trust_region(Path(folder) / "run.csv").updates
    returns = np.array([episode["r"] for episode in model.ep_info_buffer or []][-20:])
    return Run(updates, returns, seconds)


def draw(runs: Mapping[str, Run], panels: Mapping[str, str], title: str, file: Path) -> None:
    """Draw columns of several runs over environment steps.

    :param runs: by label
    :param panels: column of the table -> label of its axis
    :param title: of the figure
    :param file: where to
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 2.2 * len(panels)), layout="constrained")
    every = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (column, name) in zip(every, panels.items()):
        for (label, run), style in zip(runs.items(), itertools.cycle(("-", "--", "-.", ":"))):
            axes.plot(run.updates["timesteps"], run.updates[column], linestyle=style, label=label)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    every[0].set_title(title)
    every[0].legend(fontsize=8)
    every[-1].set_xlabel("environment steps")
    figure.savefig(file, dpi=110)

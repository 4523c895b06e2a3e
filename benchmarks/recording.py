"""What TrustRegionRecorder costs: its time between updates and at environment steps, as a share of the update's.

    python benchmarks/recording.py

Update and recording alternate in one run, so that both see the same machine. Medians over the updates of a run but the
first two, and their range from the 10th to the 90th percentile.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import TrustRegionRecorder

SETTINGS: dict[str, dict[str, Any]] = {
    "SB3's defaults": {"n_envs": 1, "n_steps": 2048, "batch_size": 64, "n_epochs": 10},
    "the zoo's for CartPole-v1": {"n_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 20},
}


class Stopwatch:
    """Collects the seconds that calls take, summed up until ``turn``."""

    def __init__(self) -> None:
        self.seconds: list[float] = [0.0]

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[-1] += time.perf_counter() - start

        return timed

    def turn(self) -> None:
        self.seconds.append(0.0)


def measure(cls: type[Any], setting: dict[str, Any], updates: int, folder: Path, **kwargs: Any) -> np.ndarray:
    """Return seconds of update, recording and recording's part at environment steps, shape (updates, 3)."""
    arguments = {key: value for key, value in setting.items() if key != "n_envs"}
    env = make_vec_env("CartPole-v1", setting["n_envs"], seed=0)
    minibatches = kwargs.pop("minibatches", False)
    model = cls("MlpPolicy", env, seed=0, device="cpu", **arguments, **kwargs)
    recorder = TrustRegionRecorder(folder / "run.csv", minibatches=minibatches)
    update, between, at_steps = Stopwatch(), Stopwatch(), Stopwatch()
    recorder._look = between.wrap(recorder._look)  # type: ignore[method-assign]
    recorder.on_step = at_steps.wrap(recorder.on_step)  # type: ignore[method-assign]
    train = update.wrap(model.train)

    def train_and_turn() -> None:
        for watch in (update, between, at_steps):
            watch.turn()
        train()

    model.train = train_and_turn
    model.learn((updates + 3) * setting["n_envs"] * setting["n_steps"], callback=recorder)
    # the rollout that follows an update begins with its recording
    return np.array([update.seconds, between.seconds, at_steps.seconds]).T[3:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=15, help="measured updates per line")
    args = parser.parse_args()
    th.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    contenders: list[tuple[str, type[Any], dict[str, Any]]] = [
        ("PPO", PPO, {}),
        ("PPOClip eager", PPOClip, {}),
        ("PPOPenalty eager", PPOPenalty, {"max_kl": None}),
        ("PPOClip compile", PPOClip, {"acceleration": "compile"}),
        ("PPOClip compile, with minibatches", PPOClip, {"acceleration": "compile", "minibatches": True}),
    ]
    print(f"{'':62}{'update':>10}{'recording':>11}{'at steps':>10}{'share':>8}   10 % to 90 %")
    with tempfile.TemporaryDirectory() as folder:
        for setting, values in SETTINGS.items():
            for name, cls, kwargs in contenders:
                seconds = measure(cls, values, args.updates, Path(folder), **dict(kwargs))
                share = seconds[:, 1:].sum(axis=1) / seconds[:, 0]
                update, between, at_steps = 1e3 * np.median(seconds, axis=0)
                low, high = np.quantile(share, [0.1, 0.9])
                print(
                    f"{setting + ', ' + name:62}{update:7.1f} ms{between:8.2f} ms{at_steps:7.2f} ms"
                    f"{np.median(share):8.2%}   {low:.2%} to {high:.2%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

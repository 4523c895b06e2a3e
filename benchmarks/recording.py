"""What TrustRegionRecorder costs, as a share of the update that it records.

    python benchmarks/recording.py

Update and recording alternate in one run, so that both see the same machine. CPU time of the one thread, which other
programs on the machine disturb less than the clock's. Medians over the updates of a run but the first two, and their
range from the 10th to the 90th percentile.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from recorded_runs import one_quiet_thread
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_ppo_variants import PPOClip, PPOPenalty
from sb3_ppo_variants.callbacks import TrustRegionRecorder

SETTINGS: dict[str, dict[str, Any]] = {
    "SB3's defaults": {"n_envs": 1, "n_steps": 2048, "batch_size": 64, "n_epochs": 10},
    "the zoo's for CartPole-v1": {"n_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 20},
}


class Stopwatch:
    """Collects the CPU seconds of every call."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            result = function(*args, **kwargs)
            self.seconds.append(time.thread_time() - start)
            return result

        return timed


def measure(cls: type[Any], setting: dict[str, Any], updates: int, folder: Path, **kwargs: Any) -> np.ndarray:
    """Return CPU seconds of updates and of their recording, shape (updates, 2)."""
    arguments = {key: value for key, value in setting.items() if key != "n_envs"}
    env = make_vec_env("CartPole-v1", setting["n_envs"], seed=0)
    minibatches = kwargs.pop("minibatches", False)
    model = cls("MlpPolicy", env, seed=0, device="cpu", **arguments, **kwargs)
    recorder = TrustRegionRecorder(folder / "run.csv", minibatches=minibatches)
    update, recording = Stopwatch(), Stopwatch()
    recorder._look = recording.wrap(recorder._look)  # type: ignore[method-assign]
    model.train = update.wrap(model.train)
    model.learn((updates + 2) * setting["n_envs"] * setting["n_steps"], callback=recorder)
    # Recording begins with a look before the first update.
    return np.array([update.seconds, recording.seconds[1:]]).T[2:]


def seconds_per_step(n: int = 100_000) -> float:
    """Return CPU seconds that SB3's call of a callback at an environment step takes."""
    recorder = TrustRegionRecorder("run.csv")
    recorder.model = PPOClip("MlpPolicy", "CartPole-v1", device="cpu")
    start = time.thread_time()
    for _ in range(n):
        recorder.on_step()
    return (time.thread_time() - start) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=25, help="measured updates per line")
    args = parser.parse_args()
    one_quiet_thread()
    contenders: list[tuple[str, type[Any], dict[str, Any]]] = [
        ("PPO", PPO, {}),
        ("PPOClip eager", PPOClip, {}),
        ("PPOPenalty eager", PPOPenalty, {"max_kl": None}),
        ("PPOClip compile", PPOClip, {"acceleration": "compile"}),
        ("PPOClip compile, with minibatches", PPOClip, {"acceleration": "compile", "minibatches": True}),
    ]
    print(f"SB3's call of a callback at an environment step: {1e6 * seconds_per_step():.2f} us\n")
    print("| setting | update | recording | share | 10 % to 90 % |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for setting, values in SETTINGS.items():
            for name, cls, kwargs in contenders:
                seconds = measure(cls, values, args.updates, Path(folder), **dict(kwargs))
                share = seconds[:, 1] / seconds[:, 0]
                update, recording = 1e3 * np.median(seconds, axis=0)
                low, high = np.quantile(share, [0.1, 0.9])
                print(
                    f"| {setting}: {name} | {update:.1f} ms | {recording:.2f} ms | {np.median(share):.2%} "
                    f"| {low:.2%} to {high:.2%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

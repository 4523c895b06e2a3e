"""Peak memory against stock PPO, and memory and compilations over many updates.

    python benchmarks/memory.py                      # the table of docs/speed.md

Each contender runs in a process of its own. "peak" is the highest resident memory of the process, "staged" the size of
the rollout kept on the device (the sum of its tensors), "growth" the resident memory gained from the 20th to the last
update of a small run in which beta, epsilon and the learning rate change all the time. "large rollouts" is the memory
gained over 20 updates from 16,384 states each, beside stock PPO's own.
"""

import argparse
import json
import multiprocessing
import os
import resource
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch as th
from speed import Contender
from speed_settings import SETTINGS, Setting


def staged_bytes(model: Any) -> int:
    """Size of the rollout that the fast path holds."""
    buffer = model.rollout_buffer
    count = buffer.buffer_size * buffer.n_envs
    observation = buffer.observations.nbytes // count
    return int(count * (min(observation, 4 * buffer.observations[0].size) + 4 * (4 + buffer.action_dim)))


def peak(name: str, setting: str) -> dict[str, float]:
    """Train two updates and report the process's peak memory in MB."""
    prepare()
    contender = Contender(name, SETTINGS[setting], "cpu", seed=0)
    contender.train(2)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak": megabytes, "staged": staged_bytes(contender.model) / 2**20}


def growth(name: str, updates: int) -> dict[str, float]:
    """Train many updates and report memory gained and graphs compiled after the second update."""
    from torch._dynamo.utils import counters

    prepare()
    contender = Contender(name, SETTINGS["S1"], "cpu", seed=0)
    contender.model.learning_rate = lambda progress: 1e-3 * (0.1 + abs(progress))
    contender.model._setup_lr_schedule()
    contender.train(2)
    graphs = counters["stats"]["unique_graphs"]
    contender.train(18)
    before = resident_bytes()
    contender.train(updates - 20)
    gained = (resident_bytes() - before) / 2**20
    return {"growth": gained, "recompiled": counters["stats"]["unique_graphs"] - graphs}


def growth_of_large(name: str) -> dict[str, float]:
    """Train on large rollouts and report memory gained after the fifth update."""
    prepare()
    contender = Contender(name, Setting("CartPole-v1", "MlpPolicy", 16, 1024, 64, 4, 1), "cpu", seed=0)
    contender.train(5)
    before = resident_bytes()
    contender.train(20)
    return {"growth": (resident_bytes() - before) / 2**20}


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def prepare() -> None:
    th.set_num_threads(1)
    warnings.filterwarnings("ignore")


def in_own_process(function: Callable[..., dict[str, float]], *args: Any) -> dict[str, float]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *args).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["S3", "S4"], choices=list(SETTINGS))
    parser.add_argument("--updates", type=int, default=200)
    args = parser.parse_args()
    for setting in args.settings:
        stock = in_own_process(peak, "stock", setting)["peak"]
        for name in ("PPOClip eager", "PPOPenalty eager"):
            row = in_own_process(peak, name, setting)
            ratio = (row["peak"] - row["staged"]) / stock
            print(
                f"{setting} {name:22} {json.dumps(row)} stock {stock:.0f} MB, (peak - staged) / stock {ratio:.3f}",
                flush=True,
            )
    for name in ("PPOPenalty eager", "PPOAdaptiveClip eager", "PPOPenalty compile"):
        print(
            f"{args.updates} updates of {name:22} {json.dumps(in_own_process(growth, name, args.updates))}", flush=True
        )
    for name in ("stock", "PPOClip eager", "PPOPenalty eager"):
        print(f"large rollouts, {name:22} {json.dumps(in_own_process(growth_of_large, name))}", flush=True)


if __name__ == "__main__":
    main()

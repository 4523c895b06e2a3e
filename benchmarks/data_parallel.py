"""Steps per second of several processes against one, with the same settings in each, on idle cores.

    python benchmarks/data_parallel.py                             # the table of docs/scale.md
    python benchmarks/data_parallel.py --settings S3 --processes 4 --repeats 7 --out data_parallel.json

Contenders: PPOPenalty of this package in one and in several processes, several that exchange nothing (what the machine
gives at most), and stock PPO in one process and in several with its policy in torch's DistributedDataParallel. All run
in processes of one torch thread. They take turns, and the median ratio to one process of the same turn is reported.
Starting the processes and the first update are not timed.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from recorded_runs import one_quiet_thread
from speed_settings import SETTINGS, Setting, make_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Evaluation(nn.Module):
    """Gives DistributedDataParallel a module whose forward is ``evaluate_actions``."""

    def __init__(self, policy: Any):
        super().__init__()
        self.policy, self.evaluate = policy, policy.evaluate_actions

    def forward(self, *args: Any) -> Any:
        return self.evaluate(*args)


APART = "PPOPenalty, apart"


def make_contender(name: str, setting: Setting, seed: int) -> Any:
    if name != "PPO":
        return make_model("PPOPenalty eager", setting, "cpu", seed)
    model = make_model("stock", setting, "cpu", seed)
    if dist.is_initialized():
        parallel = DistributedDataParallel(Evaluation(model.policy))
        model.policy.evaluate_actions = lambda *args: parallel(*args)
    return model


def meet(store: dist.Store, where: str, size: int) -> None:
    """Wait for the other processes, which may be no group."""
    store.add(where, 1)
    while store.add(where, 0) < size:
        time.sleep(1e-3)


def work(name: str, setting: Setting, seed: int, updates: int, to: Path) -> None:
    """Train in this process, and write how many seconds the updates took."""
    one_quiet_thread()
    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    store = dist.FileStore(str(to.with_name(os.environ["MASTER_PORT"])), size)
    if name == APART:
        os.environ["WORLD_SIZE"] = "1"
    elif size > 1:
        dist.init_process_group("gloo")
    together = name == "PPOPenalty"  # it counts the steps of all processes, and gives each its own seed
    model = make_contender(name, setting, seed + (0 if together else rank))
    steps = setting.n_steps * setting.n_envs * (size if together else 1)
    model.learn(steps)
    meet(store, "before", size)
    start = time.perf_counter()
    model.learn(steps * updates, reset_num_timesteps=False)
    meet(store, "after", size)
    if rank == 0:
        to.write_text(str(time.perf_counter() - start))


def steps_per_second(key: str, name: str, size: int, updates: int, seed: int, folder: Path) -> float:
    """Start the processes of one contender and wait for them."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port = own.getsockname()[1]
    shared = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    to = folder / "seconds"
    own_arguments = ["--worker", name, "--settings", key, "--updates", str(updates), "--seed", str(seed)]
    command = [sys.executable, __file__, *own_arguments, "--out", str(to)]
    processes = [
        subprocess.Popen(command, env={**os.environ, **{k: str(v) for k, v in shared.items()}, "RANK": str(rank)})
        for rank in range(size)
    ]
    if any([process.wait() for process in processes]):
        raise SystemExit(f"a process of {name} failed")
    setting = SETTINGS[key]
    return updates * setting.n_steps * setting.n_envs * size / float(to.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=["S2", "S3"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="turns; medians are reported")
    parser.add_argument("--updates", type=int, default=10, help="timed in each turn, after one that is not")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        work(args.worker, SETTINGS[args.settings[0]], args.seed, args.updates, args.out)
        return
    contenders = [(name, size) for name in ("PPOPenalty", "PPO") for size in (1, args.processes)]
    contenders.insert(2, (APART, args.processes))
    report: dict[str, Any] = {"processes": args.processes, "updates": args.updates, "settings": {}}
    folder = Path(tempfile.mkdtemp())
    for key in args.settings:
        speeds: dict[tuple[str, int], list[float]] = {contender: [] for contender in contenders}
        for _ in range(args.repeats):
            for name, size in contenders:
                speeds[name, size].append(steps_per_second(key, name, size, args.updates, args.seed, folder))
        print(f"\n{key} {SETTINGS[key]}\n{'':30}{'steps/s':>9}{'ratio to one process':>22}{'lowest':>8}{'highest':>9}")
        for (name, size), own in speeds.items():
            ratios = [several / one for several, one in zip(own, speeds[name.removesuffix(", apart"), 1])]
            label = f"{name}, {size} process{'es' if size > 1 else ''}{', DDP' if name == 'PPO' and size > 1 else ''}"
            speed, ratio = statistics.median(own), statistics.median(ratios)
            print(f"{label:30}{speed:9.0f}{ratio:22.2f}{min(ratios):8.2f}{max(ratios):9.2f}", flush=True)
            report["settings"].setdefault(key, {})[label] = {"steps_per_second": own, "ratios": ratios}
        if args.out is not None:
            args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Steps per second of this package against stock SB3 PPO, in one run, interleaved.

    python benchmarks/speed.py                         # the table of docs/speed.md
    python benchmarks/speed.py --settings S3 --repeats 7 --out speed.json
    python benchmarks/speed.py --device cuda --settings S4 images images_bf16 wide
    python benchmarks/speed.py --table speed.json      # of an earlier run, as Markdown; runs nothing

Every contender trains on the same setting with the same seed; contenders take turns, so that a busy machine slows all
of them, and the median ratio to stock PPO of the same turn is reported. A contender's first update is excluded from the
warm figure: that is where torch.compile compiles; its cost is in the column "first update". "limit" is the ratio that
the simulator and the matrix products alone would have (speed_limit.py).
"""

import argparse
import json
import platform
import re
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stable_baselines3
import torch as th
from speed_limit import limit
from speed_settings import GPU_SETTINGS, SETTINGS, VARIANTS, Setting, make_model

ALL_SETTINGS = SETTINGS | GPU_SETTINGS


Train = Callable[[int], float]
"""Trains for so many updates, the environment included, and returns the seconds it took."""


class Contender:
    """A model that is trained some updates at a time, the environment included."""

    def __init__(self, name: str, setting: Setting, device: str, seed: int):
        self.name = name
        self.model = make_model(name, setting, device, seed)
        self.steps_per_update = setting.n_steps * setting.n_envs

    def train(self, updates: int) -> float:
        """Train on and return the seconds it took."""
        start = time.perf_counter()
        self.model.learn(updates * self.steps_per_update, reset_num_timesteps=False)
        if self.model.device.type == "cuda":
            th.cuda.synchronize()
        return time.perf_counter() - start


def take_turns(contenders: dict[str, Train], setting: Setting, repeats: int) -> dict[str, dict[str, float]]:
    """Let contenders take turns.

    :param contenders: by name, ``"stock"`` among them
    :param setting: that all train on
    :param repeats: turns after the first update
    :return: per contender: steps per second (median), ratio to stock PPO of the same turn (median, lowest, highest),
        seconds of the first update
    """
    first = {name: train(1) for name, train in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, train in contenders.items():
            seconds[name].append(train(setting.updates))
    steps = setting.updates * setting.n_steps * setting.n_envs
    result = {}
    for name, times in seconds.items():
        ratios = [stock / own for stock, own in zip(seconds["stock"], times)]
        result[name] = {
            "steps_per_second": steps / statistics.median(times),
            "ratio": statistics.median(ratios),
            "ratio_lowest": min(ratios),
            "ratio_highest": max(ratios),
            "first_update_seconds": first[name],
        }
    return result


def ours(names: list[str], setting: Setting, device: str, seed: int) -> dict[str, Train]:
    """Make stock PPO and contenders of this package."""
    return {name: Contender(name, setting, device, seed).train for name in ["stock", *names]}


def machine(device: str) -> str:
    """Name what the figures were measured on."""
    about = Path("/proc/cpuinfo")  # Linux; platform.processor() says x86_64 there
    names = re.findall(r"^model name\s*: (.+)$", about.read_text(), re.MULTILINE) if about.exists() else []
    processor = names[0] if names else platform.processor() or platform.machine()
    return processor if device == "cpu" else f"{th.cuda.get_device_name(device)}, {processor}"


def table(report: dict[str, Any]) -> str:
    """Write a report as a Markdown table: ratios to stock PPO, beside the limit's."""
    contenders = [name for name in next(iter(report["settings"].values())) if name != "stock"]
    head = ["setting", "stock, steps/s", *contenders, "limit", "simulator, us/step", "products, us/step"]
    lines = [head, ["---"] * len(head)]
    for key, rows in report["settings"].items():
        parts = report["limits"][key]
        figures = [f"{rows[name]['ratio']:.2f}" for name in contenders]
        limits = [f"{parts['ratio']:.1f}", *(f"{1e6 * parts[part]:.1f}" for part in ("simulator", "products"))]
        lines.append([key, f"{rows['stock']['steps_per_second']:.0f}", *figures, *limits])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=list(ALL_SETTINGS), default=list(SETTINGS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument(
        "--accelerations", nargs="+", choices=["off", "eager", "compile"], default=["off", "eager", "compile"]
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns per contender; the median is reported")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--table", type=Path, help="print the table of a JSON file")
    args = parser.parse_args()
    if args.table is not None:
        print(table(json.loads(args.table.read_text())))
        return
    th.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    names = [f"{variant} {acceleration}" for variant in args.variants for acceleration in args.accelerations]
    report: dict[str, Any] = {
        "machine": machine(args.device),
        "versions": {"torch": th.__version__, "stable_baselines3": stable_baselines3.__version__},
        "device": args.device,
        "threads": args.threads,
        "seed": args.seed,
        "repeats": args.repeats,
        "settings": {},
        "limits": {},
    }
    for key in args.settings:
        setting = ALL_SETTINGS[key]
        result = take_turns(ours(names, setting, args.device, args.seed), setting, args.repeats)
        report["settings"][key] = result
        parts = limit(setting, args.device, args.seed)
        shortest = sum(parts.values())
        report["limits"][key] = {**parts, "ratio": 1 / (result["stock"]["steps_per_second"] * shortest)}
        print(f"\n{key} {setting}")
        microseconds = ", ".join(f"{part} {1e6 * seconds:.1f}" for part, seconds in parts.items())
        print(f"limit: {report['limits'][key]['ratio']:.1f} times stock ({microseconds} us/step)")
        print(f"{'':26}{'steps/s':>9}{'ratio':>8}{'lowest':>8}{'highest':>9}{'first update (s)':>18}")
        for name, row in result.items():
            print(
                f"{name:26}{row['steps_per_second']:9.0f}{row['ratio']:8.2f}{row['ratio_lowest']:8.2f}"
                f"{row['ratio_highest']:9.2f}{row['first_update_seconds']:18.2f}",
                flush=True,
            )
        if args.out is not None:
            args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

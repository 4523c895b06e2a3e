"""What benchmarks of whole runs share: a line of a file for each, the table of its updates, returns of its episodes."""

import functools
import json
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ppo_variants.callbacks import TrustRegionRecorder
from sb3_ppo_variants.trust_region_log import Table, read_trust_region

Row = dict[str, Any]


class Returns(BaseCallback):
    """Keeps the return of every episode, and the step at which it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []
        self.ends: list[int] = []

    def _on_step(self) -> bool:
        found = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        self.found += found
        self.ends += [self.num_timesteps] * len(found)
        return True


def record_updates(model: Any, steps: int, *callbacks: BaseCallback) -> Table:
    """Train, and return the table of the updates."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.csv"
        model.learn(steps, callback=[TrustRegionRecorder(path), *callbacks])
        return read_trust_region(path).updates


def one_quiet_thread() -> None:
    th.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)


def read_rows(path: Path) -> list[Row]:
    """Read the runs of a file, if it is there; a last line without its end is of a killed process, and no run."""
    return [json.loads(line) for line in _whole_lines(path).splitlines()] if path.exists() else []


def _whole_lines(path: Path) -> str:
    text = path.read_text()
    return text[: text.rfind("\n") + 1]


def run_missing(path: Path, cells: Sequence[Row], run: Callable[..., Row], jobs: int = 1) -> list[Row]:
    """Do the runs that are not in a file, each in a process with one thread, and write a line as soon as one ends.

    :param path: of the file
    :param cells: arguments of ``run``, with which the line begins
    :param run: returns the rest of the line
    :param jobs: processes at a time
    :return: the lines of the cells, in their order
    """
    rows = read_rows(path)
    if path.exists():
        os.truncate(path, len(_whole_lines(path).encode()))
    missing = [cell for cell in cells if not any(cell.items() <= row.items() for row in rows)]
    with multiprocessing.Pool(jobs, one_quiet_thread, maxtasksperchild=8) as pool, path.open("a") as file:
        for row in pool.imap_unordered(functools.partial(_row, run), missing):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
    return [row for cell in cells for row in rows if cell.items() <= row.items()]


def _row(run: Callable[..., Row], cell: Row) -> Row:
    return {**cell, **run(**cell)}


__all__ = ["Returns", "Row", "one_quiet_thread", "read_rows", "record_updates", "run_missing"]

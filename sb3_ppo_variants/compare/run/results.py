"""A folder of results: one file per cell, written atomically and checked when read."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from sb3_ppo_variants.compare.cells import Cell, Outcome
from sb3_ppo_variants.compare.plan import Plan
from sb3_ppo_variants.saving.atomic_file import write_atomically

FORMAT = 1
PLAN_FILE = "comparison.json"


class Inventory(NamedTuple):
    """What a folder has of a plan.

    :param results: by cell
    :param damaged: files that are unreadable or of other settings, with the reason
    :param missing: cells without a usable result
    """

    results: dict[Cell, dict[str, Any]]
    damaged: dict[Path, str]
    missing: list[Cell]


class ResultsFolder:
    """Where a comparison keeps its plan, its cells and their logs.

    :param path: of the folder
    """

    def __init__(self, path: Path):
        self.path = path

    def make(self) -> None:
        """Make the folder if it is not there.

        :raises ValueError: if it is a file or cannot be made
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(f"{self.path} is not a folder; give --out another name") from error
        except OSError as error:
            raise ValueError(f"cannot write to {self.path}: {error.strerror}; give --out another name") from error

    def lock(self) -> filelock.BaseFileLock:
        """Reserve the folder for this process; the lock ends with it, even if it is killed.

        :raises ValueError: if another process has it
        """
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ValueError(
                f"another comparison is running in {self.path}; wait for it or give another --out"
            ) from error
        return lock

    def begin(self, plan: Plan) -> Plan:
        """Record the plan, or check that it continues the one that is there.

        :param plan: what is to be run
        :return: the plan with the earlier commands
        :raises ValueError: naming what differs
        """
        earlier = self.read_plan() if (self.path / PLAN_FILE).is_file() else None
        done = [cell for cell in earlier.cells() if self.cell_file(cell).is_file()] if earlier is not None else []
        if earlier is not None and (kept := earlier.restricted_to(done)).arms:  # else nothing would be lost
            _refuse_changes(self.path, plan, kept)
            commands = [*earlier.commands, *(command for command in plan.commands if command not in earlier.commands)]
            plan = replace(plan, commands=tuple(commands))
        write_atomically(self.path / PLAN_FILE, json.dumps({"format": FORMAT, **plan.to_json()}, indent=1))
        return plan

    def read_plan(self) -> Plan:
        """Read the plan that is there.

        :raises ValueError: if there is none or it is unreadable
        """
        file = self.path / PLAN_FILE
        try:
            data = json.loads(file.read_text())
            if data.pop("format") != FORMAT:
                raise ValueError(f"{file} was written by another version of this program; run the comparison again")
            return Plan.from_json(data)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(f"no comparison in {self.path}: there is no {PLAN_FILE}") from error
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is damaged ({error}); remove it and run the same command: cells are kept"
            ) from error

    def store(self, outcome: Outcome) -> bool:
        """Keep the result of a cell, or the log of one that crashed.

        :param outcome: how it ended
        :return: False if it crashed
        """
        log = self.log_file(outcome.cell)
        if outcome.result is None:
            write_atomically(log, outcome.log)
            return False
        write_atomically(self.cell_file(outcome.cell), _seal(outcome.result))
        log.unlink(missing_ok=True)
        return True

    def take_inventory(self, plan: Plan) -> Inventory:
        """Read and check the cells of a plan.

        :param plan: which cells, with which settings
        """
        inventory = Inventory({}, {}, [])
        for cell in plan.cells():
            file = self.cell_file(cell)
            try:
                inventory.results[cell] = _unseal(file.read_text(), plan.task(cell).to_json())
            except FileNotFoundError:
                inventory.missing.append(cell)
            except (OSError, ValueError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
                inventory.damaged[file] = str(error)
                inventory.missing.append(cell)
        return inventory

    def cell_file(self, cell: Cell) -> Path:
        """Return where the result of a cell is."""
        return self.path / "cells" / f"{cell.file_stem}.json"

    def log_file(self, cell: Cell) -> Path:
        """Return where the log of a crashed cell is."""
        return self.path / "logs" / f"{cell.file_stem}.log"

    def crashed(self, cells: Iterable[Cell]) -> dict[Cell, Path]:
        """Return the logs of those of some cells that crashed."""
        return {cell: log for cell in cells if (log := self.log_file(cell)).is_file()}


class Merged(NamedTuple):
    """Results of several folders together.

    :param plan: all that was planned; the folders' plans joined, so it has combinations that no folder has
    :param planned: the cells of the folders' own plans
    :param results: by cell
    :param damaged: unusable files, with the reason
    :param crashed: logs of cells that crashed and are in none of the folders
    """

    plan: Plan
    planned: list[Cell]
    results: dict[Cell, dict[str, Any]]
    damaged: dict[Path, str]
    crashed: dict[Cell, Path]


def merge(folders: Sequence[ResultsFolder]) -> Merged:
    """Put the results of folders together.

    :param folders: at least one
    :raises ValueError: if their settings differ, or two have different results of one cell
    """
    plan = folders[0].read_plan()
    merged = Merged(plan, [], {}, {}, {})
    for folder in folders:
        own = folder.read_plan()
        if bool(own.swept) != bool(plan.swept):
            raise ValueError(f"{folders[0].path} and {folder.path} do not fit together: only one of them is a sweep")
        if _axes(own) != _axes(plan):
            keys = " and ".join(", ".join(sorted(_axes(of))) for of in (plan, own))
            raise ValueError(f"{folders[0].path} and {folder.path} do not fit together: they sweep {keys}")
        if changes := plan.differences(own):
            listed = "\n  ".join(changes)
            raise ValueError(f"{folders[0].path} and {folder.path} do not fit together. What differs:\n  {listed}")
        plan = plan.merged_with(own)
        merged.planned.extend(own.cells())
        inventory = folder.take_inventory(own)
        merged.damaged.update(inventory.damaged)
        merged.crashed.update(folder.crashed(inventory.missing))
        for cell, result in inventory.results.items():
            if _episodes(merged.results.setdefault(cell, result)) != _episodes(result):
                raise ValueError(f"{folder.path} and another folder have different results of {cell}; leave one out")
    crashed = {cell: log for cell, log in merged.crashed.items() if cell not in merged.results}
    return merged._replace(plan=plan, planned=list(dict.fromkeys(merged.planned)), crashed=crashed)


def _axes(plan: Plan) -> set[str]:
    """Return the hyperparameters that a plan sweeps."""
    return {key for point in plan.swept.values() for key in point.values}


def _episodes(result: dict[str, Any]) -> list[Any]:
    """Return the evaluations without the seconds before them, in which two runs of one cell differ."""
    return [(row["timesteps"], row["rewards"], row["lengths"]) for row in result["evaluations"]]


def _refuse_changes(path: Path, plan: Plan, earlier: Plan) -> None:
    changes = plan.differences(earlier)
    changes += [f"{name}: there, but not asked for now" for name in plan.leaves_out(earlier)]
    if changes:
        listed = "\n  ".join(changes)
        raise ValueError(
            f"{path} holds a comparison with other settings; give another --out, or the same settings "
            f"(arms, environments and seeds may be added). What differs:\n  {listed}"
        )


def _seal(result: str) -> str:
    """Put a checksum in front of a result."""
    return f'{{"format": {FORMAT}, "sha256": "{_digest(result)}", "result":\n{result}\n}}\n'


def _unseal(text: str, task: dict[str, Any]) -> dict[str, Any]:
    sealed = json.loads(text)
    body = text.split('"result":\n', 1)[-1].removesuffix("\n}\n")
    if not isinstance(sealed, dict) or sealed.get("sha256") != _digest(body):
        raise ValueError("its checksum is wrong")
    result: dict[str, Any] = sealed["result"]
    if {key: result[key] for key in task} != task:
        raise ValueError("it was made with other settings")
    return result


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


__all__ = ["Inventory", "Merged", "ResultsFolder", "merge"]

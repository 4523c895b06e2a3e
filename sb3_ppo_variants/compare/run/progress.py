"""What one sees while cells run: a live table in a terminal, plain lines elsewhere."""

import json
import re
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sb3_ppo_variants.compare.cells import RANDOM_POLICY, Cell, CellTask, Outcome


class ProgressReport:
    """Shows running cells with their rate and remaining time, and a line for each that ends.

    :param tasks: the cells to run
    :param n_done: cells that were done before
    :param console: where to
    """

    def __init__(self, tasks: list[CellTask], n_done: int, console: Console):
        self._steps = {task.cell: task.settings.n_timesteps for task in tasks}
        self._n_done = n_done
        self._n_all = n_done + len(tasks)
        self._console = console
        self._started = time.monotonic()
        self._steps_done = dict.fromkeys(self._steps, 0)
        self._rows: dict[Cell, TaskID] = {}
        self._table = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]:>12}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=120,
        )
        self._all = self._table.add_task(self._overall(), total=sum(self._steps.values()), rate="")

    def __enter__(self) -> "ProgressReport":
        self._table.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._table.stop()

    def update(self, cell: Cell, steps: int) -> None:
        """Show how far a running cell is.

        :param cell: which
        :param steps: done so far
        """
        if cell not in self._rows:
            self._rows[cell] = self._table.add_task(f"  {cell}", total=self._steps[cell], rate="")
        self._steps_done[cell] = min(steps, self._steps[cell])
        row = self._rows[cell]
        seconds = next(task.elapsed or 0.0 for task in self._table.tasks if task.id == row)
        self._table.update(row, completed=steps, rate=f"{steps / seconds:,.0f}/s" if seconds and steps else "")
        self._table.update(self._all, completed=sum(self._steps_done.values()), description=self._overall())

    def end(self, outcome: Outcome, log: str) -> None:
        """Report the end of a cell.

        :param outcome: how it ended
        :param log: where the log of a crashed cell is
        """
        self._n_done += 1
        self._steps_done[outcome.cell] = self._steps[outcome.cell]
        if outcome.cell in self._rows:
            self._table.remove_task(self._rows.pop(outcome.cell))
        self._table.update(self._all, completed=sum(self._steps_done.values()), description=self._overall())
        counter = f"[{self._n_done:>{len(str(self._n_all))}}/{self._n_all}]"
        if outcome.result is None:
            self._console.print(f"{counter} {outcome.cell}: CRASHED: {_cause(outcome.log)}\n      log: {log}")
        else:
            self._console.print(f"{counter} {outcome.cell}: {_describe(outcome)}{self._remaining()}")

    def _overall(self) -> str:
        return f"{self._n_done} of {self._n_all} cells"

    def _remaining(self) -> str:
        done, every = sum(self._steps_done.values()), sum(self._steps.values())
        if done < every / 100 or done == every:
            return ""
        seconds = (time.monotonic() - self._started) * (every - done) / done
        return f"; about {_duration(seconds)} left"


def _cause(log: str) -> str:
    """Return the line that names the error: the first after the last traceback, else the last of all."""
    said = [line for line in log.splitlines() if line.strip() and not line.startswith("(exit")]
    tracebacks = [index for index, line in enumerate(said) if line.startswith("Traceback (")]
    ended = re.search(r"^\(exit status (-?)(\d+)\)$", log, re.MULTILINE)
    if ended and not tracebacks:
        reason = ", perhaps because memory ran out" if ended[2] == "9" else ""
        return f"killed by signal {ended[2]}{reason}" if ended[1] else f"ended with exit status {ended[2]}"
    after = said[tracebacks[-1] + 1 :] if tracebacks else []
    return next((line for line in after if not line.startswith(" ")), said[-1] if said else "it said nothing")


def _describe(outcome: Outcome) -> str:
    assert outcome.result is not None
    result: dict[str, Any] = json.loads(outcome.result)
    last = result["evaluations"][-1]
    text = f"score {sum(last['rewards']) / len(last['rewards']):.1f}"
    if outcome.cell.arm == RANDOM_POLICY:
        return text
    seconds = result["cost"]["train_seconds"]
    return f"{text} after {last['timesteps']:,} steps in {_duration(seconds)} ({last['timesteps'] / seconds:,.0f}/s)"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


__all__ = ["ProgressReport"]

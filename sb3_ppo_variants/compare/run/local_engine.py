"""Cells on this machine, several at a time, each in a process of its own."""

import time
from collections.abc import Callable, Generator, Sequence

from sb3_ppo_variants.compare.cells import Cell, CellTask, Outcome
from sb3_ppo_variants.compare.run.cell_process import CellProcess, ForkedCellProcess

Progress = Callable[[Cell, int], None]
"""Is told a running cell and its steps done."""


class LocalEngine:
    """Runs cells as child processes.

    :param jobs: how many at a time
    """

    poll_seconds = 0.2

    def __init__(self, jobs: int):
        self.jobs = jobs

    def run(self, tasks: Sequence[CellTask], on_progress: Progress) -> Generator[Outcome, None, None]:
        """Run cells, in order, and give each one's outcome when it ends.

        :param tasks: the cells
        :param on_progress: called a few times a second
        """
        waiting, running = list(tasks), list[CellProcess]()
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    running.append(ForkedCellProcess(waiting.pop(0)))
                time.sleep(self.poll_seconds)
                for process in list(running):
                    on_progress(process.task.cell, process.steps_done())
                    if not process.running():
                        running.remove(process)
                        yield process.collect()
        finally:
            for process in running:
                process.close()


__all__ = ["LocalEngine", "Progress"]

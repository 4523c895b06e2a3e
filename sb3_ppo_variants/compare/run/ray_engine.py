"""Cells on a Ray cluster: each a Ray task, done again elsewhere if its worker is lost."""

import logging
import os
import socket
from collections.abc import Generator, Sequence
from typing import Any

from sb3_ppo_variants.compare.cells import CellTask, Outcome
from sb3_ppo_variants.compare.run.cell_process import CellProcess
from sb3_ppo_variants.compare.run.local_engine import Progress

RETRIES = 3
"""How often a cell is started again whose worker was lost; one that fails by itself is not."""


class RayEngine:
    """Runs cells as Ray tasks of one core each. The package must be installed on all nodes.

    :param address: of the cluster, as ``ray.init`` takes it; None starts one on this machine
    :raises ValueError: if Ray is not installed or the cluster cannot be reached
    """

    poll_seconds = 1.0

    def __init__(self, address: str | None):
        try:
            import ray
        except ImportError as error:
            raise ValueError('--engine ray needs Ray: pip install ".[ray]" in a clone of the project') from error
        self._ray: Any = ray
        _require_listening(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported unless the user wants it
        try:
            ray.init(address=address, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise ValueError(_unreachable(address, error)) from error

    def run(self, tasks: Sequence[CellTask], on_progress: Progress) -> Generator[Outcome, None, None]:
        """Run cells and give each one's outcome when it ends.

        :param tasks: the cells
        :param on_progress: not called, since Ray tells only when a task has ended
        """
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(run_cell)
        waiting = {remote.remote(task): task for task in tasks}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), timeout=self.poll_seconds)
                for reference in ready:
                    yield self._outcome(reference, waiting.pop(reference))
        finally:
            ray.shutdown()

    def _outcome(self, reference: Any, task: CellTask) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Outcome(task.cell, None, f"lost by Ray after {RETRIES} retries: {error}\n")
        return outcome


def _require_listening(address: str | None) -> None:
    """Refuse an address of the form HOST:PORT where nothing listens; Ray itself tries for minutes, then ends Python."""
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ValueError(_unreachable(address, error)) from error


def _unreachable(address: str | None, error: Exception) -> str:
    return f"no Ray cluster at {address}: {error}; start one with `ray start --head`, or leave --address out"


def run_cell(task: CellTask) -> Outcome:
    """Run a cell on the node where this is called, in a process of its own.

    :param task: what to run
    """
    process = CellProcess(task)
    try:
        return process.collect()
    finally:
        process.close()


__all__ = ["RayEngine", "run_cell"]

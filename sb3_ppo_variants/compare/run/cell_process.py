"""A cell's process: started, watched and stopped."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from sb3_ppo_variants.compare.cells import CellTask, Outcome

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
PROGRAM = "sb3_ppo_variants.compare.run.cell"
_PRELOADED = [PROGRAM, "sb3_ppo_variants.zoo.experiment_manager"]


class CellProcess:
    """One running cell, a program of its own. It ends with the process that started it.

    :param task: what to run
    """

    def __init__(self, task: CellTask):
        self.task = task
        self._temporary = TemporaryDirectory(prefix="sb3-compare-")
        self._folder = Path(self._temporary.name)
        self._log = self._folder / "log.txt"
        (self._folder / "task.json").write_text(json.dumps(task.to_json()))
        self._log.touch()
        self._start()

    def _start(self) -> None:
        with self._log.open("w") as log:
            self._program = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, str(self._folder)],
                stdin=subprocess.PIPE,  # closed when its holder ends in whatever way
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ONE_THREAD},
                start_new_session=True,
            )

    def _wait(self) -> int | None:
        return self._program.wait()

    def _kill(self) -> None:
        _kill_group(self._program.pid)
        self._program.kill()
        self._program.wait()
        if self._program.stdin:
            self._program.stdin.close()

    def running(self) -> bool:
        """Say whether it still runs."""
        return self._program.poll() is None

    def steps_done(self) -> int:
        """Return the steps of training done so far."""
        try:
            return int((self._folder / "progress").read_text())
        except (OSError, ValueError):  # none yet, or it is being written
            return 0

    def collect(self) -> Outcome:
        """Wait for its end, take its result and remove its files."""
        status = self._wait()
        result = self._folder / "result.json"
        text = result.read_text() if status == 0 and result.is_file() else None
        log = self._log.read_text(errors="replace") + ("" if text else f"\n(exit status {status})\n")
        self.close()
        return Outcome(self.task.cell, text, log)

    def close(self) -> None:
        """Kill it if it runs and remove its files."""
        self._kill()
        self._temporary.cleanup()


class ForkedCellProcess(CellProcess):
    """A cell forked from a process that has imported everything: a sweep of short runs pays for that once.

    The server that forks is Python's own; it has no threads and has run nothing but imports.

    :param task: what to run
    """

    def _start(self) -> None:
        from sb3_ppo_variants.compare.run.cell import forked

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        with mock.patch.dict(os.environ, ONE_THREAD), _deaf_to_interrupts():
            forkserver.ensure_running()
        # A daemon could not have an environment that starts a process; the cell ends with this process by itself.
        self._process = context.Process(target=forked, args=(str(self._folder),), daemon=False)
        self._process.start()

    def _wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def _kill(self) -> None:
        _kill_group(self._process.pid)
        self._process.kill()
        self._process.join()

    def running(self) -> bool:
        return self._process.is_alive()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started in this context never sees Ctrl-C: Python's server ignores it only after all its imports."""
    resource_tracker.ensure_running()  # the server would start it, which ends with interrupts let through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_group(leader: int | None) -> None:
    """End a cell and the processes that its environment has started; a cell leads a group of its own."""
    if leader is not None:
        with suppress(ProcessLookupError, PermissionError):  # not begun, or all gone
            os.killpg(leader, signal.SIGKILL)


__all__ = ["CellProcess", "ForkedCellProcess"]

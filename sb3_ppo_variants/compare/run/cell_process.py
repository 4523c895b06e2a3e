"""A cell's program: started, watched and stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sb3_ppo_variants.compare.cells import CellTask, Outcome

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class CellProcess:
    """One running cell. It ends with the process that started it: the cell watches its standard input.

    :param task: what to run
    """

    def __init__(self, task: CellTask):
        self.task = task
        self._temporary = TemporaryDirectory(prefix="sb3-compare-")
        self._folder = Path(self._temporary.name)
        (self._folder / "task.json").write_text(json.dumps(task.to_json()))
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sb3_ppo_variants.compare.run.cell", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ONE_THREAD},
            )

    @property
    def _log(self) -> Path:
        return self._folder / "log.txt"

    def steps_done(self) -> int:
        """Return the steps of training done so far."""
        try:
            return int((self._folder / "progress").read_text())
        except (OSError, ValueError):  # none yet, or it is being written
            return 0

    def running(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def collect(self) -> Outcome:
        """Wait for its end, take its result and remove its files."""
        status = self._process.wait()
        result = self._folder / "result.json"
        text = result.read_text() if status == 0 and result.is_file() else None
        log = self._log.read_text(errors="replace") + ("" if text else f"\n(exit status {status})\n")
        self.close()
        return Outcome(self.task.cell, text, log)

    def close(self) -> None:
        """Kill it if it runs and remove its files."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._temporary.cleanup()


__all__ = ["CellProcess"]

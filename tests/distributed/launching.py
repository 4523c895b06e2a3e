"""Starts a script in several processes, as torchrun does."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Ended(NamedTuple):
    """A process that is over."""

    status: int
    output: str
    errors: str


def environment() -> dict[str, str]:
    """Return the environment variables of a process that is to find this package and the tests' modules."""
    paths = os.pathsep.join(filter(None, [*sys.path, str(HERE)]))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def launched(script: str, *arguments: str, size: int = 2, timeout: float = 200) -> list[Ended]:
    """Run a script of this folder in several processes, without torchrun's watch over them.

    :param script: its name
    :param arguments: of its command line
    :param size: how many processes
    :param timeout: seconds after which they hang
    """
    shared = {**environment(), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        found = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [Ended(process.returncode, *texts) for process, texts in zip(processes, found)]


def torchrun(*arguments: str, timeout: float = 300) -> Ended:
    """Run torchrun.

    :param arguments: of its command line
    :param timeout: seconds after which it hangs
    """
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=timeout)
    return Ended(done.returncode, done.stdout, done.stderr)

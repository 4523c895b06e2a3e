"""One process per run: who writes checkpoints into a folder holds a lock on it, at most until the process ends."""

import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out there
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"
_held: dict[Path, tuple[int, IO[bytes]]] = {}  # by folder, with the process that holds it


def take(folder: Path) -> bool:
    """Take the lock of a folder; taken twice in one process it is held once.

    :param folder: of a run's checkpoints, which exists
    :return: False if another process has it; True also where the file system knows no locks
    """
    folder = folder.resolve()
    if fcntl is None or _held.get(folder, (0, None))[0] == os.getpid():
        return True
    file = open(folder / _NAME, "ab")  # it stays open
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which a forked process, as of an environment, does not have
    except (BlockingIOError, PermissionError):
        file.close()
        return False
    except OSError:
        pass
    _held[folder] = os.getpid(), file
    return True


def release(folder: Path) -> None:
    """Give back what this process has taken, if it has.

    :param folder: of a run's checkpoints
    """
    process, file = _held.pop(folder.resolve(), (0, None))
    if file is not None and process == os.getpid():
        file.close()


__all__ = ["release", "take"]

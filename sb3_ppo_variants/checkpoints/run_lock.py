"""One process per run: who writes checkpoints into a folder holds a lock on it, at most until the process ends."""

import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out there
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"
_held: dict[Path, IO[bytes]] = {}


def take(folder: Path) -> bool:
    """Take the lock of a folder; taken twice in one process it is held once.

    :param folder: of a run's checkpoints, which exists
    :return: False if another process has it; True also where the file system knows no locks
    """
    place = folder.resolve()
    if fcntl is None or _is_held(place):
        return True
    try:
        file = open(place / _NAME, "ab")  # it stays open
    except OSError:  # as in a folder that cannot be written to, which the first checkpoint will say
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    except OSError:
        pass
    _held[place] = file
    return True


def release(folder: Path) -> None:
    """Give back what this process has taken, if it has.

    :param folder: of a run's checkpoints
    """
    file = _held.pop(folder.resolve(), None)
    if file is not None:
        file.close()


def _is_held(place: Path) -> bool:
    """Tell whether this process has the lock of the folder that is there now: it may have been made anew."""
    if place not in _held:
        return False
    try:
        if os.path.samestat(os.fstat(_held[place].fileno()), os.stat(place / _NAME)):
            return True
    except OSError:
        pass
    release(place)
    return False


def _leave_to_parent() -> None:
    """Close the files in a forked process, as of an environment: it would hold the locks beyond its parent's end."""
    for file in _held.values():
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


__all__ = ["release", "take"]

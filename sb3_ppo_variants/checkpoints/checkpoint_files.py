"""Checkpoint files that are either whole or not there.

A file is written under a temporary name, flushed to the disk, read back, and only then renamed. Its name ends with a
digest of its content, so that damage of any kind shows without opening it.
"""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sb3_ppo_variants.saving.atomic_file import UNFINISHED, write_atomically

_PREFIX = "checkpoint_"
_NAME = re.compile(rf"{_PREFIX}(\d{{12,}})_[0-9a-f]{{16}}\.zip")  # a CheckpointCallback's may lie beside them


class CheckpointFile(NamedTuple):
    """A file in a checkpoint folder, whole or damaged.

    :param timesteps: environment steps when it was written
    :param path: where it is
    """

    timesteps: int
    path: Path

    def intact(self) -> bool:
        """Tell whether the content is what was written.

        :raises OSError: if it is there and cannot be read, as in a moment without the network: it may be whole
        """
        with suppress(FileNotFoundError, IsADirectoryError):
            return self.path.stem.rpartition("_")[2] == _digest(self.path.read_bytes())
        return False


def write_checkpoint(folder: Path, timesteps: int, content: bytes) -> CheckpointFile:
    """Write a checkpoint that appears under its name only once it is safely on the disk.

    :param folder: of the run's checkpoints, which exists
    :param timesteps: environment steps so far
    :param content: of the file
    :raises OSError: if it cannot be written, or does not read back as it was written; nothing is left of it then
    """
    final = CheckpointFile(timesteps, folder / f"{_PREFIX}{timesteps:012d}_{_digest(content)}.zip")
    write_atomically(final.path, content)
    return final


def list_checkpoints(folder: Path) -> list[CheckpointFile]:
    """Return all checkpoints by name, the newest first, intact or not.

    :param folder: of the run's checkpoints; it may be missing
    """
    names = ((_NAME.fullmatch(path.name), path) for path in folder.glob(f"{_PREFIX}*.zip"))
    return sorted((CheckpointFile(int(name[1]), path) for name, path in names if name), reverse=True)


def newest_checkpoint(folder: str | os.PathLike[str]) -> CheckpointFile:
    """Return the newest intact checkpoint.

    :param folder: of the run's checkpoints
    :raises FileNotFoundError: if there is none
    """
    found = list_checkpoints(Path(folder))
    for checkpoint in found:
        if checkpoint.intact():
            return checkpoint
    damaged = f" ({len(found)} damaged)" if found else ""
    raise FileNotFoundError(f"no intact checkpoint in {folder}{damaged}; start the run anew, or name another folder")


def tidy(folder: Path) -> None:
    """Remove what an interrupted save left, and take damaged checkpoints out of the count by renaming them.

    :param folder: of the run's checkpoints
    """
    for unfinished in folder.glob(f"{UNFINISHED}*"):
        unfinished.unlink()
    for checkpoint in list_checkpoints(folder):
        if not checkpoint.intact():
            checkpoint.path.rename(checkpoint.path.with_suffix(".damaged"))


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest checkpoints.

    :param folder: of the run's checkpoints
    :param keep: how many stay
    """
    for checkpoint in list_checkpoints(folder)[keep:]:
        checkpoint.path.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


__all__ = ["CheckpointFile", "list_checkpoints", "newest_checkpoint", "prune", "tidy", "write_checkpoint"]

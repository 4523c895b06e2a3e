"""Files that are there whole or not at all."""

import errno
import os
from pathlib import Path

UNFINISHED = ".unfinished_"
"""Begins the name of a file that is being written; a process that is killed may leave one."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that appears under its name only once it is safely on the disk; it replaces an older one.

    :param path: its folder is made if it is not there
    :param content: text, written as UTF-8 with its line ends as they are, or bytes
    :raises OSError: if it cannot be written, or does not read back as it was written; nothing is left of it then
    """
    path = Path(os.path.realpath(path))  # of a link the file that it names is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a device would be replaced
        raise OSError(f"{path} is no ordinary file")
    data = content.encode() if isinstance(content, str) else content
    unfinished = path.with_name(f"{UNFINISHED}{os.getpid()}_{path.name}")
    try:
        with open(unfinished, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if unfinished.read_bytes() != data:
            raise OSError(f"{unfinished} does not read back as it was written; check the disk")
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the file system can; Windows has no such call and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:  # some network shares know no such call for folders; the file itself is there
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


__all__ = ["UNFINISHED", "write_atomically"]

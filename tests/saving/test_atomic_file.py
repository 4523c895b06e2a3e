"""A file is there whole or not at all, and one module sees to it."""

import errno
import os
import re
import stat
from pathlib import Path

import pytest

import sb3_ppo_variants
from sb3_ppo_variants.saving.atomic_file import write_atomically


def test_a_file_is_written_as_given_and_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file.txt"
    for content in ("one\r\ntwo\n", "ε\n"):
        write_atomically(path, content)
        assert path.read_bytes() == content.encode()
    assert list(path.parent.iterdir()) == [path]


def test_of_a_link_the_file_that_it_names_is_replaced(tmp_path: Path) -> None:
    write_atomically(tmp_path / "run.csv", "older")
    (tmp_path / "latest.csv").symlink_to("run.csv")
    write_atomically(tmp_path / "latest.csv", "newer")
    assert (tmp_path / "run.csv").read_text() == "newer"
    assert (tmp_path / "latest.csv").is_symlink()


@pytest.mark.skipif(os.name != "posix", reason="such files are of Unix")
def test_what_is_no_ordinary_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe is no ordinary file"):
        write_atomically(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_older_file(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"older")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"newer")
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on Unix")
def test_a_share_that_cannot_flush_a_folder_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def on_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", on_files_only)
    write_atomically(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_there_is_one_place_for_atomic_files() -> None:
    package = Path(sb3_ppo_variants.__file__).parent
    users = [path for path in package.rglob("*.py") if re.search(r"os\.(replace|rename|fsync)\(", path.read_text())]
    assert users == [package / "saving" / "atomic_file.py"]

"""A checkpoint file is whole, or it is recognised as not."""

import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_ppo_variants.checkpoints import run_lock, run_state
from sb3_ppo_variants.checkpoints.checkpoint_files import (
    list_checkpoints,
    newest_checkpoint,
    prune,
    tidy,
    write_checkpoint,
)
from sb3_ppo_variants.saving.atomic_file import UNFINISHED

CONTENT = bytes(range(200)) * 3


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_checkpoint_is_the_newest_and_intact(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 999, b"older")
    written = write_checkpoint(tmp_path, 1000, CONTENT)  # sorts by number, although "1000" < "999" as text
    assert written.path.read_bytes() == CONTENT
    assert newest_checkpoint(tmp_path) == newest_checkpoint(str(tmp_path)) == written
    assert [checkpoint.timesteps for checkpoint in list_checkpoints(tmp_path)] == [1000, 999]
    assert len(names(tmp_path)) == 2  # nothing else is left


@given(position=st.integers(0, len(CONTENT) - 1), flip=st.integers(1, 255))
def test_a_changed_byte_is_noticed(position: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    written = write_checkpoint(tmp_path_factory.mktemp("checkpoints"), 1, CONTENT)
    changed = bytearray(CONTENT)
    changed[position] ^= flip
    written.path.write_bytes(changed)
    assert not written.intact()


@pytest.mark.parametrize("length", [0, 1, len(CONTENT) - 1])
def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(length: int, tmp_path: Path) -> None:
    older = write_checkpoint(tmp_path, 1, b"older")
    newer = write_checkpoint(tmp_path, 2, CONTENT)
    newer.path.write_bytes(CONTENT[:length])
    assert newest_checkpoint(tmp_path) == older


def test_no_intact_checkpoint_is_an_error_that_counts_the_damaged(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, CONTENT).path.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no intact checkpoint in .*\(1 damaged\); start the run anew"):
        newest_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="no intact checkpoint"):
        newest_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_save_leaves_nothing_and_spoils_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = write_checkpoint(tmp_path, 1, b"older")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no space left"):
        write_checkpoint(tmp_path, 2, CONTENT)
    assert names(tmp_path) == [older.path.name]
    assert older.intact()


def test_what_reads_back_differently_is_not_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: CONTENT[:-1] + b"?")
    with pytest.raises(OSError, match="does not read back"):
        write_checkpoint(tmp_path, 2, CONTENT)
    assert names(tmp_path) == []


def test_the_name_appears_only_after_the_content_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    flush = os.fsync

    def watch(descriptor: int) -> None:
        seen.append(len(list_checkpoints(tmp_path)))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_checkpoint(tmp_path, 1, CONTENT)
    assert seen == [0, 1]  # the content first, then the folder with the new name


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    good = write_checkpoint(tmp_path, 100, b"content")
    (tmp_path / "checkpoint_000000000200_0123456789abcdef.zip").symlink_to(tmp_path / "gone")
    (tmp_path / "checkpoint_000000000300_0123456789abcdef.zip").mkdir()
    assert newest_checkpoint(tmp_path) == good


def test_a_file_that_cannot_be_read_now_is_not_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, 100, b"older")
    newest = write_checkpoint(tmp_path, 200, b"content")

    def fails(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        for read in (newest_checkpoint, tidy):
            with pytest.raises(OSError, match="Input/output error"):
                read(tmp_path)
    tidy(tmp_path)
    assert newest_checkpoint(tmp_path) == newest


def one_other(folder: Path) -> str:
    """Ask in another process whether it may have the lock."""
    script = "import sys, pathlib; from sb3_ppo_variants.checkpoints import run_lock\n"
    script += "print(run_lock.take(pathlib.Path(sys.argv[1])))"
    return subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True).stdout.strip()


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    other = functools.partial(one_other, tmp_path)
    assert other() == "True"
    assert run_lock.take(tmp_path)
    assert run_lock.take(tmp_path)
    assert other() == "False"
    (tmp_path / ".lock").read_bytes()  # as a backup does
    assert other() == "False"
    run_lock.release(tmp_path)
    run_lock.release(tmp_path)
    assert other() == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_does_not_hold_the_lock_longer(tmp_path: Path) -> None:
    """As an environment of a run that is killed."""
    assert run_lock.take(tmp_path)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        run_lock.release(tmp_path)
        assert one_other(tmp_path) == "True"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_the_lock_of_a_folder_that_is_made_anew_is_taken_anew(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for _ in range(2):
        folder.mkdir()
        assert run_lock.take(folder)
        assert one_other(folder) == "False"
        shutil.rmtree(folder)
    run_lock.release(folder)


def test_a_folder_that_takes_no_lock_is_left_to_the_first_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    assert run_lock.take(tmp_path)


def test_tidy_removes_unfinished_files_and_sets_damaged_ones_aside(tmp_path: Path) -> None:
    good = write_checkpoint(tmp_path, 1, b"good")
    bad = write_checkpoint(tmp_path, 2, CONTENT)
    bad.path.write_bytes(b"torn")
    (tmp_path / f"{UNFINISHED}123").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("not ours")
    tidy(tmp_path)
    assert names(tmp_path) == [good.path.name, bad.path.with_suffix(".damaged").name, "notes.txt"]


def test_models_of_sb3_s_callback_in_the_same_folder_are_left_alone(tmp_path: Path) -> None:
    good = write_checkpoint(tmp_path, 1, b"good")
    for model in ("checkpoint_640_steps.zip", "checkpoint_000000000640_steps.zip"):
        (tmp_path / model).write_bytes(b"a model")
    tidy(tmp_path)
    prune(tmp_path, 1)
    assert newest_checkpoint(tmp_path) == good
    assert names(tmp_path) == [good.path.name, "checkpoint_000000000640_steps.zip", "checkpoint_640_steps.zip"]


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for timesteps in (30, 10, 40, 20):
        write_checkpoint(tmp_path, timesteps, CONTENT)
    prune(tmp_path, 2)
    assert [checkpoint.timesteps for checkpoint in list_checkpoints(tmp_path)] == [40, 30]


def test_a_gpu_s_generator_goes_to_the_gpu_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may have another number than when the checkpoint was written."""
    states, put = {number: th.full((1,), number, dtype=th.uint8) for number in (0, 1)}, {}
    monkeypatch.setattr(th.cuda, "is_available", lambda: True)
    monkeypatch.setattr(th.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(th.cuda, "get_rng_state_all", lambda: list(states.values()))
    monkeypatch.setattr(th.cuda, "get_rng_state", lambda device: states[th.device(device).index])
    monkeypatch.setattr(th.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(th.cuda, "set_rng_state", lambda state, on: put.update({getattr(on, "index", on): state}))
    taken = run_state._generators(th.device("cuda:1"))
    run_state._restore_generators(taken, th.device("cuda:0"))
    assert {number: int(state) for number, state in put.items()} == {0: 1}

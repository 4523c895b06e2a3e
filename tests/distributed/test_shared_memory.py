"""Messages through shared memory arrive whole, in turn, or not at all."""

import multiprocessing
import os
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_ppo_variants.distributed import shared_memory
from sb3_ppo_variants.distributed.shared_memory import MESSAGE_BYTES, SharedMemory, message_of

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="ranks share memory on Linux and x86-64 only"
)
SIZE = 3


def message(rank: int, turn: int) -> list[np.ndarray]:
    """What a rank says: of another length at every turn, in two parts."""
    n = 1 + (turn * 7919) % 5000
    return [np.full(n, rank, np.float32), np.full((2, 2), turn, np.float32)]


def exchange(path: str, rank: int, turns: int, opened: Any, results: Any) -> None:
    memory = SharedMemory(os.open(path, os.O_RDWR), rank, SIZE)
    opened.wait()
    hurry = random.Random(rank)
    for turn in range(turns):
        if hurry.random() < 0.01:
            time.sleep(hurry.random() * 3e-3)
        parts = message(rank, turn)
        if turn % 2:
            found: Any = memory.gather(parts[0])
            expected: Any = [message(other, turn)[0] for other in range(SIZE)]
        else:
            memory.mean_(*parts)
            found, expected = parts, [np.full_like(parts[0], (SIZE - 1) / 2), message(rank, turn)[1]]
        if not all(np.array_equal(one, other) for one, other in zip(found, expected)):
            results.put(f"rank {rank}, turn {turn}")
            return
    results.put("equal")


def run(path: Path, turns: list[int]) -> tuple[list[Any], list[int | None]]:
    """Let each rank exchange so many messages; return what those that came to an end say, and all exit codes."""
    path.write_bytes(bytes(SharedMemory.length(SIZE)))
    context = multiprocessing.get_context("spawn")
    opened, results = context.Barrier(SIZE), context.Queue()
    processes = [context.Process(target=exchange, args=(str(path), r, n, opened, results)) for r, n in enumerate(turns)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    codes = [process.exitcode for process in processes]
    return [results.get(timeout=10) for _ in range(codes.count(0))], codes


def test_processes_at_different_speeds_see_the_same_messages(tmp_path: Path) -> None:
    assert run(tmp_path / "memory", [3000] * SIZE) == (["equal"] * SIZE, [0] * SIZE)


def test_a_rank_that_has_ended_ends_the_wait(tmp_path: Path) -> None:
    assert run(tmp_path / "memory", [50, 50, 20]) == (["equal"], [1, 1, 0])


def test_a_closed_memory_ends_the_wait_at_once(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(bytes(SharedMemory.length(2)))
    first, second = (SharedMemory(os.open(path, os.O_RDWR), rank, 2) for rank in range(2))
    second.close()
    with pytest.raises(RuntimeError, match="a rank has left the exchange"):
        first.gather(np.ones(1))


def test_what_goes_through_memory() -> None:
    largest = th.zeros(MESSAGE_BYTES // 4)
    assert message_of(largest) is not None
    assert message_of(largest, th.zeros(1)) is None
    assert message_of(th.zeros(2), th.zeros(2, dtype=th.float64)) is None
    assert message_of(th.zeros(2, device="meta")) is None


def test_a_message_is_the_memory_of_its_parts() -> None:
    tensor, array = th.zeros(2, 2, requires_grad=True), np.zeros(3, np.float32)
    found = message_of(tensor, array)
    assert found is not None
    found[0][0, 1] = found[1][2] = 5
    assert (tensor[0, 1].item(), array[2]) == (5, 5)


def test_the_file_is_gone_once_all_have_opened_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "_PLACE", tmp_path)
    memory = shared_memory.shared_memory(0, 1, lambda value: [value])
    assert memory is not None
    assert not list(tmp_path.iterdir())
    assert [one.tolist() for one in memory.gather(np.array([True, False]))] == [[True, False]]


def test_ranks_that_share_no_memory_go_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "_PLACE", tmp_path / "none")
    assert shared_memory.shared_memory(0, 2, lambda value: [value, value]) is None
    monkeypatch.setattr(shared_memory, "_PLACE", tmp_path)
    answers = iter([lambda path: [path, path], lambda opened: [opened, False]])
    assert shared_memory.shared_memory(0, 2, lambda value: next(answers)(value)) is None  # the other is elsewhere
    assert not list(tmp_path.iterdir())

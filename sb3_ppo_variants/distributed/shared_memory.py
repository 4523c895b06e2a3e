"""What ranks on one computer hand each other through memory: a message takes microseconds, over sockets hundreds.

Only where every rank sees the same memory, on Linux and x86-64. That processor makes stores visible in the order in
which they were made, and the protocol relies on it. Elsewhere the ranks talk over torch.distributed alone.
"""

import mmap
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th

if sys.platform != "win32":
    import fcntl

_Views = list[list[npt.NDArray[Any]]]
Part = th.Tensor | npt.NDArray[Any]  # of a message
MESSAGE_BYTES = 1 << 20  # larger ones are left to torch.distributed, as there the time goes into copying
_PLACE = Path("/dev/shm")
_LINE = 64  # bytes of a cache line: each rank counts in one of its own
_CLOSED = -1
_SPINS = 1000  # looks before the processor is offered to others
_MOST_VIEWS = 64  # of a run few messages differ, but for pickled objects
_LONG = 0.1  # seconds; a longer wait, as for a slow rollout, need not be answered within microseconds


class SharedMemory:
    """One exchange after the other: every rank leaves a message, and takes those of all.

    Each rank counts its messages. It writes to two places in turn: who begins message n + 2 has seen that all have
    counted message n + 1, and so have taken message n.

    A rank holds a lock on one byte of the file as long as it lives: by that the others notice its death.

    :param file: descriptor of a file of ``length(size)`` bytes
    :param rank: of this process
    :param size: number of ranks
    """

    def __init__(self, file: int, rank: int, size: int):
        self._file, self._rank, self._sent = file, rank, 0
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
        memory = mmap.mmap(file, self.length(size))
        # Not an array: this is read thousands of times a second, and a call of numpy takes ten times as long.
        self._head = memoryview(memory)[: _LINE * size].cast("q")
        self._lines = range(0, len(self._head), _LINE // 8)  # of each rank: its count, and its last two lengths
        self._places = np.frombuffer(memory, np.uint8, offset=_LINE * size).reshape(2, size, MESSAGE_BYTES)
        self._views: dict[Any, _Views] = {}  # of messages of the same parts: to make them takes longer than to copy

    @staticmethod
    def length(size: int) -> int:
        """Return the bytes that so many ranks need.

        :param size: number of ranks
        """
        return size * (_LINE + 2 * MESSAGE_BYTES)

    def gather(self, array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Exchange a message.

        :param array: of the same shape and type on every rank, see :func:`message_of`
        :return: those of all ranks, in their order; this is the shared memory itself, to be used before the next
            exchange
        :raises RuntimeError: if a rank has ended or has closed its memory, or sends something else
        """
        return self._exchange([array])[0]

    def mean_(self, *arrays: npt.NDArray[Any]) -> None:
        """Replace arrays by their means over all ranks, which are the same to the last bit on each.

        :param arrays: of one message, as for :meth:`gather`
        :raises RuntimeError: as :meth:`gather`
        """
        for array, (first, second, *others) in zip(arrays, self._exchange(arrays)):
            np.add(first, second, out=array)
            for other in others:
                array += other
            array /= len(self._lines)

    def _exchange(self, arrays: Sequence[npt.NDArray[Any]]) -> _Views:
        """Leave a message and return, for each of its parts, those of all ranks."""
        self._sent += 1
        turn, own = self._sent % 2, self._lines[self._rank]
        n_bytes = 0
        views = self._views_of(turn, arrays)
        for array, parts in zip(arrays, views):
            parts[self._rank][...] = array
            n_bytes += array.nbytes
        self._head[own + 1 + turn] = n_bytes
        self._head[own] = self._sent
        self._wait()
        lengths = [self._head[line + 1 + turn] for line in self._lines]
        if lengths.count(n_bytes) < len(lengths):
            raise RuntimeError(f"the ranks exchange different things: messages of {lengths} bytes")
        return views

    def _views_of(self, turn: int, arrays: Sequence[npt.NDArray[Any]]) -> _Views:
        key = (turn, arrays[0].dtype.char, *[array.shape for array in arrays])
        if key not in self._views:
            if len(self._views) == _MOST_VIEWS:
                self._views.clear()
            messages, start, views = self._places[turn], 0, []
            for array in arrays:
                part = messages[:, start : start + array.nbytes].view(array.dtype)
                views.append([one.reshape(array.shape) for one in part])
                start += array.nbytes
            self._views[key] = views
        return self._views[key]

    def close(self) -> None:
        """Let the others fail instead of wait."""
        self._head[self._lines[self._rank]] = _CLOSED

    def _wait(self) -> None:
        head, lines, sent = self._head, self._lines, self._sent
        spins, start, checked = 0, 0.0, 0.0
        while (lowest := min([head[line] for line in lines])) < sent:
            if lowest == _CLOSED:
                raise RuntimeError("a rank has left the exchange")
            spins += 1
            if spins < _SPINS:
                continue
            os.sched_yield()
            now = time.monotonic()
            if spins == _SPINS:
                start = checked = now
            if now > start + _LONG:
                time.sleep(1e-3)
            if now > checked + _LONG:
                self._check_the_others()
                checked = now

    def _check_the_others(self) -> None:
        for rank in set(range(len(self._lines))) - {self._rank}:
            with suppress(OSError):  # its owner lives
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
                raise RuntimeError(f"rank {rank} has ended")


def message_of(*parts: Part) -> list[npt.NDArray[Any]] | None:
    """Return what is to be exchanged as arrays, which share its memory.

    Whether it goes this way is the same on all ranks if the parts' shapes and types are.

    :param parts: of the message
    :return: None for what is on a GPU, of several types, or too large
    """
    arrays: list[npt.NDArray[Any]] = []
    n_bytes = 0
    for part in parts:
        if not isinstance(part, np.ndarray):
            if part.device.type != "cpu":
                return None
            part = part.detach().numpy()
        if arrays and part.dtype != arrays[0].dtype:
            return None
        arrays.append(part)
        n_bytes += part.nbytes
    return arrays if n_bytes <= MESSAGE_BYTES else None


def shared_memory(rank: int, size: int, gather: Callable[[Any], list[Any]]) -> SharedMemory | None:
    """Open the memory that the ranks of a run share; None on every rank if one of them cannot.

    :param rank: of this process
    :param size: number of ranks
    :param gather: collects an object of every rank, in their order
    """
    fits = _PLACE.is_dir() and platform.machine() == "x86_64" and hasattr(os, "sched_yield")
    path = gather(_make(size) if rank == 0 and fits else None)[0]
    opened = None
    if path is not None and fits:
        with suppress(OSError):
            file = os.open(path, os.O_RDWR)
            try:
                opened = SharedMemory(file, rank, size)
            except OSError:
                os.close(file)
                raise
    together = all(gather(opened is not None))  # all have opened it, or all go without
    if rank == 0 and path is not None:
        os.unlink(path)  # the memory lasts as long as somebody uses it
    return opened if together else None


def _make(size: int) -> str | None:
    with suppress(OSError):
        file, path = tempfile.mkstemp(prefix="sb3_ppo_variants_", dir=_PLACE)
        try:
            os.posix_fallocate(file, 0, SharedMemory.length(size))  # fails where a file of zeros would fail later
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(file)
        return path
    return None


__all__ = ["MESSAGE_BYTES", "Part", "SharedMemory", "message_of", "shared_memory"]

"""The processes that train one model together, and the only place where they talk to each other.

A process of a run is called a rank, as in torch.distributed. Whatever decides what a rank does next is decided on a
value that is the same on every rank, so that none waits for ever for another. In a single process every method gives
its argument back.
"""

import atexit
import functools
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

import numpy as np
import torch as th
import torch.distributed as dist

# Before a group is made: the group of all ranks is the default of these functions' arguments. Were they defined when
# there is one, as making an optimiser would see to, it would never be let go, and its threads would outlive the
# interpreter, which ends a process with SIGABRT now and then.
import torch.distributed.nn.functional
from torch.distributed.rendezvous import rendezvous

from sb3_ppo_variants.distributed.shared_memory import Part, SharedMemory, message_of, shared_memory

T = TypeVar("T")
_FAILURE = "sb3_ppo_variants/failure"
_SECONDS_FOR_A_NAME = 2.0  # a rank that fails says so before it closes its connections: this is for a slow store


class RankFailedError(RuntimeError):
    """Another process of the run has failed, so that this one cannot go on."""


class Ranks:
    """A run in this process alone; :class:`JoinedRanks` is one in several."""

    rank: int = 0
    """Number of this process, from 0. Rank 0 writes the files and the console."""
    size: int = 1
    """How many processes train together."""
    failed: bool = False
    """True once one of them has failed: then nothing is exchanged any more."""

    @property
    def first(self) -> bool:
        """True on rank 0."""
        return self.rank == 0

    def mean_(self, *parts: Part) -> None:
        """Replace tensors or arrays by their means over all ranks, in one exchange.

        :param parts: on one device, of the same shapes on every rank
        """

    def stack(self, numbers: th.Tensor) -> th.Tensor:
        """Collect a tensor of every rank.

        :param numbers: of the same shape on every rank
        :return: on the CPU, shape (n_ranks, *shape)
        """
        return numbers.unsqueeze(0)

    def gather(self, mine: T) -> list[T]:
        """Collect an object of every rank.

        :param mine: of this rank; it is pickled
        :return: in the order of the ranks
        """
        return [mine]

    def from_first(self, make: Callable[[], T]) -> T:
        """Let rank 0 do something and hand the result, or the exception, to all.

        :param make: called on rank 0 only; its result is pickled
        """
        return make()

    def mean(self, number: float) -> float:
        """Average a number over all ranks; the result is the same to the last bit on each.

        :param number: of this rank
        """
        return number

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is up on any rank.

        :param flag: of this rank
        """
        return flag

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Let an exception inside end the other ranks as well."""
        yield


class JoinedRanks(Ranks):
    """The ranks of torch.distributed's default group.

    What is on the CPU goes through shared memory where all ranks are on one computer, else over gloo; what is on a GPU
    over the group's backend for it.
    """

    _memory: SharedMemory | None = None

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.process = os.getpid()
        self._store = dist.distributed_c10d._get_default_store()
        backends = dist.get_backend_config()
        self._small = None if "cpu:gloo" in backends else dist.new_group(backend="gloo")  # None is the default group
        self._can_close = "nccl" not in backends or self._small is not None  # nccl may wait for who is gone
        self._memory = shared_memory(self.rank, self.size, self.gather)

    def mean_(self, *parts: Part) -> None:
        if not parts:
            return
        if self._memory is not None and (arrays := message_of(*parts)) is not None:
            self._exchange(self._memory.mean_, *arrays)
            return
        tensors = [th.as_tensor(part).detach() for part in parts]
        flat = th.cat([tensor.reshape(-1) for tensor in tensors])
        self._exchange(dist.all_reduce, flat, group=None if flat.is_cuda else self._small)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(mean.view(tensor.shape))

    def stack(self, numbers: th.Tensor) -> th.Tensor:
        numbers = numbers.detach().cpu().contiguous()
        if self._memory is not None and (arrays := message_of(numbers)) is not None:
            return th.from_numpy(np.stack(self._exchange(self._memory.gather, *arrays)))
        parts = [th.empty_like(numbers) for _ in range(self.size)]
        self._exchange(dist.all_gather, parts, numbers, group=self._small)
        return th.stack(parts)

    def gather(self, mine: T) -> list[T]:
        if self._memory is None:
            found: list[Any] = [None] * self.size
            self._exchange(dist.all_gather_object, found, mine, group=self._small)
            return found
        own = pickle.dumps(mine)
        lengths = self.stack(th.tensor(len(own))).tolist()
        parts = self.stack(th.from_numpy(np.frombuffer(own.ljust(max(lengths), b"."), dtype=np.uint8).copy()))
        return [pickle.loads(part[:length].numpy()) for part, length in zip(parts, lengths)]

    def from_first(self, make: Callable[[], T]) -> T:
        outcome: list[Any] = [None, None]
        if self.first:
            try:
                outcome[0] = make()
            except Exception as failure:
                outcome[1] = failure
        self._exchange(dist.broadcast_object_list, outcome, src=0, group=self._small)
        result, error = outcome
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]  # what rank 0 made

    def mean(self, number: float) -> float:
        found: list[float] = self.stack(th.tensor(number, dtype=th.float64)).tolist()
        return sum(found) / self.size

    def any(self, flag: bool) -> bool:
        return bool(self.stack(th.tensor(flag)).any())

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not self.failed:
                self._announce(error)
            raise

    def _exchange(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function in which the ranks talk; what goes wrong there says which of them failed."""
        if self.failed:
            raise RankFailedError("the processes of this run do not train together any more: one of them has failed")
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:  # the base of all errors of torch.distributed
            who = self._who_failed() or f"another process of this run has ended: {error}"
            self._close()
            raise RankFailedError(who) from error

    def _announce(self, error: BaseException) -> None:
        """Say who failed, here and where the others look, and close the connections that they wait on."""
        interrupted = isinstance(error, KeyboardInterrupt)
        what = "was interrupted" if interrupted else f"failed: {type(error).__name__}: {error}"
        said = f"rank {self.rank} of {self.size} {what}"
        if not interrupted:
            print(said, file=sys.stderr, flush=True)
        with suppress(RuntimeError):
            self._store.set(_FAILURE, said)
        self._close()

    def _close(self) -> None:
        self.failed = True
        if self._memory is not None:
            self._memory.close()
        if self._can_close:
            with suppress(RuntimeError, ValueError):
                dist.destroy_process_group(self._small)

    def _who_failed(self) -> str | None:
        end = time.monotonic() + _SECONDS_FOR_A_NAME
        with suppress(RuntimeError):  # the store is gone with the process that kept it
            while time.monotonic() < end:
                if self._store.check([_FAILURE]):
                    return self._store.get(_FAILURE).decode()
                time.sleep(0.05)
        return None


_ALONE = Ranks()
_joined: JoinedRanks | None = None


def current_ranks() -> Ranks:
    """Return the processes that train with this one; joins them if a launcher such as torchrun started this process.

    :return: the same object at every call; a single rank in a process for a rank's environments, and where
        torch.distributed is not initialised and RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT name no others
    """
    global _joined
    if _joined is not None and _joined.process != os.getpid():  # forked from a rank
        return _ALONE
    if _joined is None and dist.is_available() and (dist.is_initialized() or _is_launched()):
        if not dist.is_initialized():
            _initialize()
        if dist.get_world_size() > 1:
            _joined = JoinedRanks()
    return _joined or _ALONE


def ranks_of(model: Any) -> Ranks:
    """Return the processes that train a model; one for an algorithm that knows nothing of several.

    :param model: of any class
    """
    ranks: Ranks = getattr(model, "ranks", _ALONE)
    return ranks


def _is_launched() -> bool:
    named = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    own = multiprocessing.current_process()  # one of a SubprocVecEnv is in the environment of its rank,
    is_worker = own.daemon or getattr(own, "_inheriting", False)  # and imports the script before it is a daemon
    return named and int(os.environ["WORLD_SIZE"]) > 1 and not is_worker


def _initialize() -> None:
    """Join the others, with a GPU of one's own where there are enough."""
    gpus = th.cuda.device_count()
    if gpus:
        th.cuda.set_device(int(os.environ.get("LOCAL_RANK", os.environ["RANK"])) % gpus)
    own_gpu = 0 < int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])) <= gpus
    store, rank, size = next(rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun keeps its store over --max-restarts: gloo would find the addresses of processes that are gone.
        store = dist.distributed_c10d.PrefixStore(f"attempt_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("cpu:gloo,cuda:nccl" if own_gpu else "gloo", store=store, rank=rank, world_size=size)
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized() and not current_ranks().failed:  # the script may have left already
        dist.destroy_process_group()


class _HasRanks(Protocol):
    @property
    def ranks(self) -> Ranks: ...


def ends_all_ranks(method: Callable[..., T]) -> Callable[..., T]:
    """Decorate a method whose exceptions must not leave the other ranks waiting.

    :param method: of an object with ``ranks``
    """

    @functools.wraps(method)
    def wrapped(self: _HasRanks, *args: Any, **kwargs: Any) -> T:
        with self.ranks.failing_together():
            return method(self, *args, **kwargs)

    return wrapped


__all__ = ["JoinedRanks", "RankFailedError", "Ranks", "current_ranks", "ends_all_ranks", "ranks_of"]

"""numpy's matrix products on one thread.

numpy's BLAS takes a thread for every core, whatever torch was told. For networks that small the threads wait for each
other more than they compute, and they wait by spinning: beside torch's threads, or beside other runs on the same cores,
a minibatch took up to forty times as long.
"""

from functools import cache
from types import TracebackType

from threadpoolctl import LibController, ThreadpoolController


class OneBlasThread:
    """Context in which BLAS uses one thread; after it, as many as before. About 4 microseconds."""

    def __enter__(self) -> None:
        libraries = _libraries()
        self._before = [library.num_threads for library in libraries]
        for library in libraries:
            library.set_num_threads(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for library, number in zip(_libraries(), self._before):
            library.set_num_threads(number)


@cache
def _libraries() -> list[LibController]:
    """Find the BLAS libraries of this process; numpy has loaded its own long since."""
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


__all__ = ["OneBlasThread"]

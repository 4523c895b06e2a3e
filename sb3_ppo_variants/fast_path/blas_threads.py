"""numpy's matrix products on one thread.

numpy's BLAS takes a thread for every core, whatever torch was told. For networks that small the threads wait for each
other more than they compute, and they wait by spinning: beside torch's threads, or beside other runs on the same cores,
a minibatch took up to forty times as long.
"""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_MOST_OF_A_VECTOR, _MOST_OF_A_MATRIX = 8_192, 200_000  # products for which OpenBLAS starts no second thread


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS uses one thread; after it, as many as before. About 20 microseconds."""
    limit: AbstractContextManager[Any] = _blas().limit(limits=1)
    return limit


def may_use_threads(n_rows: int, weights: int) -> bool:
    """Tell whether a product with a layer's weights is large enough for BLAS to use several threads.

    :param n_rows: of the layer's input
    :param weights: how many the layer has
    """
    return n_rows * weights > (_MOST_OF_A_VECTOR if n_rows == 1 else _MOST_OF_A_MATRIX)


@cache
def _blas() -> ThreadpoolController:
    """Find the BLAS libraries of this process; numpy has loaded its own long since."""
    return ThreadpoolController().select(user_api="blas")


__all__ = ["may_use_threads", "one_blas_thread"]

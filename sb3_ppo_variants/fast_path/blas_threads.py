"""numpy's matrix products on one thread.

numpy's BLAS takes a thread for every core, whatever torch was told. For networks that small the threads wait for each
other more than they compute, and they wait by spinning: beside torch's threads, or beside other runs on the same cores,
a minibatch took up to forty times as long.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial

from threadpoolctl import LibController, ThreadpoolController

from sb3_ppo_variants.fast_path.process_setting import ProcessSetting

_MOST_OF_A_VECTOR, _MOST_OF_A_MATRIX = 8_192, 200_000  # products for which OpenBLAS starts no second thread


def one_blas_thread() -> AbstractContextManager[None]:
    """Let BLAS use one thread; after the last user, as many as before. Some tens of microseconds."""
    return _ONE_THREAD.held()


def has_one_thread() -> bool:
    """Tell whether BLAS has one thread without us, as with ``OMP_NUM_THREADS=1``: then there is nothing to set."""
    return _ONE_THREAD.unused(lambda: all(library.num_threads == 1 for library in _libraries()))


def may_use_threads(n_rows: int, weights: int) -> bool:
    """Tell whether a product with a layer's weights is large enough for BLAS to use several threads.

    :param n_rows: of the layer's input
    :param weights: how many the layer has
    """
    return n_rows * weights > (_MOST_OF_A_VECTOR if n_rows == 1 else _MOST_OF_A_MATRIX)


def _set(numbers: tuple[int, ...]) -> None:
    for library, number in zip(_libraries(), numbers):
        library.set_num_threads(number)
        # Since 3.8 the thread that has set the number owns it; the last user may be another one.
        getattr(library, "clear_controlling_thread", lambda: None)()


def _set_one() -> Callable[[], None]:
    numbers = tuple(library.num_threads for library in _libraries())
    before = () if set(numbers) == {1} else numbers  # nothing to set, and nothing to set back
    _set((1,) * len(before))
    return partial(_set, before)


_ONE_THREAD = ProcessSetting(_set_one)


@cache
def _libraries() -> list[LibController]:
    """Find the BLAS libraries of this process; numpy has loaded its own long since."""
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


__all__ = ["has_one_thread", "may_use_threads", "one_blas_thread"]

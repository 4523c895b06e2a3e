"""Memory that an update has freed stays with the process until the update is over, with glibc's allocator.

An update with images makes and frees tensors of tens of megabytes many times a second. glibc gives memory of that size
back to the system, which fills it with zeros when it hands it out again, page by page: up to a quarter of the time.
"""

import ctypes
import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache

from sb3_ppo_variants.fast_path.process_setting import ProcessSetting

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEEP = (1 << 31) - 1  # bytes, the largest C int
_OWN_MMAP_THRESHOLD = 32 << 20  # bytes to which glibc's thresholds grow by themselves once such memory is freed
_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def kept_memory() -> AbstractContextManager[None]:
    """Keep freed memory; after the last user glibc may give it back. Nothing is done where the user has set it."""
    return _KEPT.held()


def _keep() -> Callable[[], None]:
    mallopt = _mallopt()
    if mallopt is None:
        return lambda: None
    mallopt(_MMAP_THRESHOLD, _KEEP)
    mallopt(_TRIM_THRESHOLD, _KEEP)

    def as_glibc_would() -> None:
        mallopt(_MMAP_THRESHOLD, _OWN_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 2 * _OWN_MMAP_THRESHOLD)

    return as_glibc_would


_KEPT = ProcessSetting(_keep)


@cache
def _mallopt() -> Callable[[int, int], int] | None:
    """Return glibc's function; None for another allocator, or with settings of the user's own."""
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _SETTINGS):
        return None
    function: Callable[[int, int], int] = ctypes.CDLL(None).mallopt
    return function


__all__ = ["kept_memory"]

"""A setting of the whole process that models need while they work, in whatever of Python's threads they are trained."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class ProcessSetting:
    """Set by its first user and set back after the last.

    :param set_it: sets it, and returns what sets it back
    """

    def __init__(self, set_it: Callable[[], Callable[[], None]]):
        self._set_it = set_it
        self._lock = Lock()
        self._users = 0
        self._set_back: Callable[[], None] = lambda: None

    def unused(self, so: Callable[[], bool]) -> bool:
        """Tell whether something is so of the setting that the process has without us.

        :param so: asked only while nobody uses this one
        """
        with self._lock:
            return self._users == 0 and so()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Use it."""
        with self._lock:
            if self._users == 0:
                self._set_back = self._set_it()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._set_back()


__all__ = ["ProcessSetting"]

"""The end of a training whose process is told to stop: clusters send SIGTERM, and kill some seconds later."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

STATUS = 128 + signal.SIGTERM
"""Exit status of a process that SIGTERM has ended."""


class Termination:
    """Makes of SIGTERM what rl-zoo3 knows: ctrl-c, after which it saves the model.

    :param grace: seconds that a training with checkpoints has to get to the end of its update, where it can write one
    """

    def __init__(self, grace: float = 10.0) -> None:
        self.grace = grace
        self.requested = False
        self.waits_for_update = False
        self.in_step = False
        self.saves = False

    @contextlib.contextmanager
    def in_good_order(self) -> Iterator[None]:
        """Listen to SIGTERM, and end with its status if there was one.

        :raises SystemExit: with status 143
        """
        self.requested = self.waits_for_update = self.in_step = self.saves = False
        earlier = signal.signal(signal.SIGTERM, self._on_signal)
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            if not self.requested:
                raise
        finally:
            self._stop_waiting()
            signal.signal(signal.SIGTERM, earlier)
        if self.requested:
            raise SystemExit(STATUS)

    def interrupt(self) -> NoReturn:
        """End the training, whose update is complete."""
        self._stop_waiting()
        raise KeyboardInterrupt

    def hold(self) -> None:
        """Put off the end of the training to :meth:`release`, for a step that must not be left half done."""
        self.in_step = threading.current_thread() is threading.main_thread()  # where signals are handled

    def release(self) -> None:
        """End the training if it was put off.

        :raises KeyboardInterrupt: as the signal does
        """
        if not self.in_step:
            return
        self.in_step = False
        if self.requested and not (self.waits_for_update or self.saves):
            self.interrupt()

    def arrives(self, seconds: float = 1.0) -> bool:
        """Say whether the signal was sent; it may have ended processes of the environments before it comes here.

        :param seconds: to wait for it
        """
        self.saves = True
        self._stop_waiting()
        end = time.monotonic() + seconds
        while not self.requested and time.monotonic() < end:
            time.sleep(0.01)
        return self.requested

    def _on_signal(self, *args: Any) -> None:
        self.requested = True
        if self.saves:
            return
        if (self.waits_for_update or self.in_step) and hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, lambda *args: self.saves or self.interrupt())
            signal.setitimer(signal.ITIMER_REAL, self.grace)
            return
        raise KeyboardInterrupt

    def _stop_waiting(self) -> None:
        self.waits_for_update = False
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)


TERMINATION = Termination()
"""Of this process: there is one signal handler."""

__all__ = ["STATUS", "TERMINATION", "Termination"]

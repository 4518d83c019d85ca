"""Signals that ask to stop: noted at once, heeded where the work can be put down."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ensemble_kit.errors import StoppedError

AGAIN = 1.0
"""Seconds after which a further signal is a second one; schedulers send one to the group and one to the process."""


class Stop:
    """What has been asked for so far. Looked at by the work itself: an exception that a signal's handler raises may
    fall into a callback, where Python drops it.

    Attributes:
        signal: SIGINT or SIGTERM; None = go on.

    Examples:
        >>> stop = Stop()
        >>> stop.heed("nothing to see")
        >>> stop.signal = signal.SIGTERM
        >>> stop.heed("stopped after step 3")
        Traceback (most recent call last):
        ensemble_kit.errors.StoppedError: stopped after step 3
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0

    def hear(self, number: int) -> None:
        """Notes a first signal; a second one, later, raises where it finds the program."""
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > AGAIN:
            self.signal = number
            self.heed("stopped at once; the same command goes on from the last state that was saved")

    def heed(self, told: str) -> None:
        """Raises KeyboardInterrupt after SIGINT, StoppedError with what is told after SIGTERM; else does nothing."""
        if self.signal is not None:
            raise KeyboardInterrupt(told) if self.signal == signal.SIGINT else StoppedError(told)


@contextmanager
def stoppable(told: str) -> Iterator[Stop]:
    """While the block runs, a first SIGINT or SIGTERM is only noted, for the block to heed.

    One that the block did not look at any more is raised at its end. A signal that is ignored stays so. Only the main
    thread may set handlers: in another one nothing is noted.

    Args:
        told: what StoppedError says then.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: stop.hear(number)) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    stop.heed(told)

"""Stops asking a server that fails again and again, so that it neither is pressed nor holds us up.

pybreaker, the library for this, holds a lock for as long as a call lasts: one question at a time.
"""

import threading
import time
from collections.abc import Callable


class Circuit:
    """Closed: every call goes out.  Open, after some failures in a row: none does, for a while.

    Then one call is let through; if it goes well the circuit is closed, if not open again.
    Thread-safe.
    """

    def __init__(
        self, failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._pause_s = pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0  # in a row
        self._next_try = 0.0  # by the clock; of meaning only while open

    def wait_s(self) -> float:
        """Give 0 if a call may go out now, else the seconds until one may.

        Whoever gets 0 of an open circuit is the one that tries, and must tell how it went.
        """
        with self._lock:
            if self._failed < self._failures:
                return 0.0
            now = self._clock()
            if now < self._next_try:
                return self._next_try - now
            self._next_try = now + self._pause_s  # the others wait for this one
            return 0.0

    def went(self, *, well: bool) -> None:
        """Tell how a call went.  An answer is well, also a refusal: the server is there."""
        with self._lock:
            self._failed = 0 if well else self._failed + 1
            if not well:
                self._next_try = self._clock() + self._pause_s

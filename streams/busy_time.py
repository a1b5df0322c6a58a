"""How long a loop worked: all its time but what it waited for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class BusyTime:
    """Seconds of work in the thread that asks."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._waited = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What passes inside is waited, but for what the thread computes there."""
        began, computed = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            self._waited += (time.monotonic() - began) - (time.thread_time() - computed)

    def take(self) -> float:
        """Seconds worked since the last call."""
        now = time.monotonic()
        busy = max(0.0, now - self._since - self._waited)
        self._since, self._waited = now, 0.0
        return busy

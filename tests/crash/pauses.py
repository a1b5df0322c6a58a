"""How long partitions stood still."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from tests.streams.workers import Views

LOOK_SECONDS = 0.02


class PauseMeter:
    """Looks at workers' views all the time and notes how long each partition's applied offset did not move.

    Meaningful only under a load that never leaves a partition without records that wait.
    """

    def __init__(self, views: Callable[[], Mapping[str, Views]]) -> None:
        self._views = views
        self._lock = threading.Lock()
        self._applied: dict[int, tuple[int, float]] = {}
        self._longest: dict[int, float] = {}
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._main = threading.Thread(target=self._look_at_all, daemon=True)

    def __enter__(self) -> "PauseMeter":
        self._main.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in [self._main, *self._threads.values()]:
            thread.join(30)

    def take(self) -> dict[int, float]:
        """Longest pause of each partition since the last call, in seconds; one that lasts counts up to now."""
        now = time.monotonic()
        with self._lock:
            taken = {
                number: max(self._longest.get(number, 0.0), now - since)
                for number, (_, since) in sorted(self._applied.items())
            }
            self._longest.clear()
        return taken

    def _look_at_all(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for name in self._views():
                if name not in self._threads:
                    self._threads[name] = threading.Thread(target=self._look_at, args=(name,), daemon=True)
                    self._threads[name].start()

    def _look_at(self, name: str) -> None:
        # One thread for each worker: one that is about to stop must not hold back the look at the others.
        while not self._stop.wait(LOOK_SECONDS):
            views = self._views().get(name)
            for number, state in (views.state().get("partitions", {}) if views else {}).items():
                self._note(int(number), state["applied"])

    def _note(self, number: int, applied: int) -> None:
        now = time.monotonic()
        with self._lock:
            before, since = self._applied.get(number, (-1, now))
            if applied > before:
                self._applied[number] = (applied, now)
                self._longest[number] = max(self._longest.get(number, 0.0), now - since)


def summary(pauses: list[float]) -> str:
    """Median and longest, in seconds.

    >>> summary([0.5, 2.0, 1.0])
    'median 1.00 s, longest 2.00 s, of 3'
    """
    return f"median {statistics.median(pauses):.2f} s, longest {max(pauses):.2f} s, of {len(pauses)}"

"""Which timers of a database are due, without a look at it while none is."""

from storage.database import Database
from storage.keys import TIMERS_END, timer_from, timer_key


class Timers:
    """The timers of one database, which are written with its batches."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._next_due = self._first(0)

    def due_users(self, end_ms: int) -> list[str]:
        """Users whose timers are due by then."""
        if self._next_due is None or self._next_due > end_ms:
            return []
        due = self._db.scan(timer_key(self._next_due, ""), timer_key(end_ms + 1, ""))
        return [timer_from(key)[1] for key, _ in due]

    def moved(self, end_ms: int, first_set: int | None) -> None:
        """Note that all due by `end_ms` are gone, and when the first of those is due that were set."""
        if self._next_due is not None and self._next_due <= end_ms:
            self._next_due = self._first(end_ms + 1)
        elif first_set is not None:
            self._next_due = min(first_set, self._next_due or first_set)

    def _first(self, since_ms: int) -> int | None:
        first = next(self._db.scan(timer_key(since_ms, ""), TIMERS_END), None)
        return None if first is None else timer_from(first[0])[0]

"""Which event ids of a chunk's records the users' sequences keep already."""

from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.database import Database
from storage.keys import event_key, user_hash


class EventIds:
    """Looks the event ids of all records up at once; a record without an id is always new."""

    def __init__(self, db: Database, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._keys: list[bytes | None] = []
        self._known: dict[str, set[int]] = {}
        for user_id, (start, end) in zip(arrivals.user_ids, arrivals.bounds, strict=True):
            events = arrivals.events[start:end]
            if any(events):
                salt = user_hash(user_id)
                self._keys += [event_key(salt, event) if event else None for event in events]
            else:
                self._keys += [None] * len(events)
        keys = [key for key in self._keys if key is not None]
        if len(set(keys)) < len(keys):
            self._note_repeated()
        if keys:
            self._note_stored(db.get_many(keys))

    def is_known(self, user_id: str) -> bool:
        """Whether any record of a user has an id that is kept, or that comes twice."""
        return user_id in self._known

    def known(self, user_id: str) -> set[int]:
        """Hashes of those ids of a user's records of which a row is kept."""
        return self._known.get(user_id, set())

    def add_all(self, batch: WriteBatch, start: int, end: int) -> None:
        """Note that the rows of records [start, end) are kept now."""
        for key in self._keys[start:end]:
            if key is not None:
                batch.put(key, b"")

    def update(self, batch: WriteBatch, user_id: str, added: set[int], dropped: set[int]) -> None:
        """Note of which ids of a user rows are kept now, and of which none any more."""
        if not (added or dropped):
            return
        salt = user_hash(user_id)
        for event in dropped:
            batch.delete(event_key(salt, event))
        for event in added:
            batch.put(event_key(salt, event), b"")

    def _note_repeated(self) -> None:
        for user_id, (start, end) in zip(self._arrivals.user_ids, self._arrivals.bounds, strict=True):
            events = [event for event in self._arrivals.events[start:end] if event]
            if len(set(events)) < len(events):
                self._known.setdefault(user_id, set())

    def _note_stored(self, values: list[bytes | None]) -> None:
        if all(value is None for value in values):
            return
        found = iter(values)
        stored = [key is not None and next(found) is not None for key in self._keys]
        for user_id, (start, end) in zip(self._arrivals.user_ids, self._arrivals.bounds, strict=True):
            events = {self._arrivals.events[place] for place in range(start, end) if stored[place]}
            if events:
                self._known.setdefault(user_id, set()).update(events)

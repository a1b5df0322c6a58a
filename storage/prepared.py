"""Bodies of due samples that were made as their records passed, so that nothing has to be read for them.

All of it is memory that may be dropped at any time: whatever is missing here is read from the database instead.
"""

from collections import OrderedDict

from storage.names import Names

MAX_RECENT_BYTES = 8 * 1024 * 1024
"""Newest events of users, kept in mind for the next sample; the users longest without a record go first."""
MAX_READY_BYTES = 16 * 1024 * 1024
"""Bodies that wait to be taken."""


class Prepared:
    """The newest events of users (see `storage.recent`), and the bodies of samples that are due, of one store."""

    def __init__(self) -> None:
        self.last = 0
        """Events that bodies hold, at least; 0 where none are to be made."""
        self.names = Names()
        """The items of recent events."""
        # A plain dict would look for its first key past all those that have gone before.
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._num_recent = 0
        self._ready: dict[tuple[str, int], bytes] = {}
        self._num_ready = 0

    @property
    def room(self) -> int:
        """Bytes of bodies that would be kept."""
        return max(0, MAX_READY_BYTES - self._num_ready) if self.last else 0

    def recent(self, user_id: str) -> bytes:
        """A user's newest events, b"" where they are not at hand; whoever moves them on gives them back by `keep`."""
        recent = self._recent.pop(user_id, b"")
        self._num_recent -= len(recent)
        return recent

    def keep(self, user_id: str, recent: bytes) -> None:
        """Keep a user's newest events, as of the last record that is applied."""
        self._recent[user_id] = recent
        self._num_recent += len(recent)
        while self._num_recent > MAX_RECENT_BYTES:
            _, oldest = self._recent.popitem(last=False)
            self._num_recent -= len(oldest)

    def forget_names(self) -> None:
        """Drop the names of items where they are too many, with all that names items by their numbers."""
        if self.names.is_full:
            self.names.clear()
            self._recent.clear()
            self._num_recent = 0

    def add(self, user_id: str, position: int, body: bytes) -> None:
        """Keep the body of a user's sample that a record made due."""
        self._ready[user_id, position] = body
        self._num_ready += len(body)

    def body(self, user_id: str, position: int) -> bytes | None:
        """The body of a sample; None where it has to be read."""
        return self._ready.get((user_id, position))

    def forget(self, user_id: str, position: int) -> None:
        """Drop the body of a sample that has arrived."""
        self._num_ready -= len(self._ready.pop((user_id, position), b""))

    def clear(self) -> None:
        """Drop all."""
        self.names.clear()
        self._recent.clear()
        self._ready.clear()
        self._num_recent = self._num_ready = 0

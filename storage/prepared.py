"""Bodies of due samples that were made as their records passed, so that nothing has to be read for them.

All of it is memory that may be dropped at any time: whatever is missing here is read from the database instead.
"""

from storage.recent import RecentEvents
from storage.sample_body import SampleBody

MAX_RECENT = 131_072
"""Events of users, and requests, kept in mind for the next sample; the users longest without a record go first."""
MAX_NAMES = 65_536
"""Item ids that are kept once for all users."""
MAX_READY = 131_072
"""Events of bodies that wait to be taken."""


class Prepared:
    """The newest events of users, and the bodies of samples that are due, of one store."""

    def __init__(self) -> None:
        self.last = 0
        """Events that bodies hold, at least; 0 where none are to be made."""
        self.names: dict[str, str] = {}
        """Item ids of recent events, each by itself."""
        self._recent: dict[str, RecentEvents] = {}
        self._sizes: dict[str, int] = {}
        self._num_recent = 0
        self._ready: dict[tuple[str, int], SampleBody] = {}
        self._num_ready = 0

    @property
    def has_room(self) -> bool:
        """Whether another body would be kept."""
        return self.last > 0 and self._num_ready < MAX_READY

    def recent(self, user_id: str) -> RecentEvents | None:
        """A user's newest events; whoever moves them on gives them back by `keep`."""
        recent = self._recent.pop(user_id, None)
        if recent is not None:
            self._num_recent -= self._sizes.pop(user_id)
        return recent

    def keep(self, user_id: str, recent: RecentEvents) -> None:
        """Keep a user's newest events, as of the last record that is applied."""
        self._recent[user_id] = recent
        self._sizes[user_id] = len(recent)
        self._num_recent += len(recent)
        while self._num_recent > MAX_RECENT:
            self.recent(next(iter(self._recent)))
        if len(self.names) > MAX_NAMES:
            self.names.clear()  # those in use stay where they are, and are kept anew when they come again

    def add(self, user_id: str, position: int, body: SampleBody) -> None:
        """Keep the body of a user's sample that a record made due."""
        self._ready[user_id, position] = body
        self._num_ready += len(body.item_ids)

    def body(self, user_id: str, position: int) -> SampleBody | None:
        """The body of a sample; None where it has to be read."""
        return self._ready.get((user_id, position))

    def forget(self, user_id: str, position: int) -> None:
        """Drop the body of a sample that has arrived."""
        body = self._ready.pop((user_id, position), None)
        if body is not None:
            self._num_ready -= len(body.item_ids)

    def clear(self) -> None:
        """Drop all."""
        self.names.clear()
        self._recent.clear()
        self._sizes.clear()
        self._ready.clear()
        self._num_recent = self._num_ready = 0

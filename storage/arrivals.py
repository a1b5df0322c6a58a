"""The records of a chunk that bring rows, those of a user together and in the order of the log."""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, chain, pairwise

import numpy as np
import numpy.typing as npt
import xxhash

from storage.changes import Acted, Change, Exposed
from storage.entries import OFFSET_BITS, ROW, Entries, entries_from

_hash = xxhash.xxh3_64_intdigest
_pack = ROW.pack
_NAN = float("nan")


class Arrivals:
    """Records of one log epoch by user. A *record* is named by its place here, from 0."""

    def __init__(self, epoch: int, changes: Sequence[Change]) -> None:
        of_users: dict[str, list[int]] = {}
        for place, change in enumerate(changes):
            if isinstance(change, Acted | Exposed):
                of_users.setdefault(change.user_id, []).append(place)
        self.user_ids = list(of_users)
        """Users of the records, in the order of their first one."""
        self.has_user = of_users.__contains__
        """Whether a user has a record here."""
        self.places = list(chain.from_iterable(of_users.values()))
        """Place of each record among the changes."""
        ends = list(accumulate(map(len, of_users.values()), initial=0))
        self.bounds = list(pairwise(ends))
        """First record and end of each user."""
        self.changes: list[Acted | Exposed] = [changes[place] for place in self.places]  # type: ignore[misc]  # as chosen above
        self.positions = [(epoch << OFFSET_BITS) | change.offset for change in self.changes]
        self.events = [_hash(change.event_id.encode()) if change.event_id else 0 for change in self.changes]
        """Hash of each record's event id; 0 where it has none."""
        self.requests = [_hash(change.request_id.encode()) if change.request_id else 0 for change in self.changes]
        """Hash of the request that each record names; 0 where it names none."""
        # In comprehensions: this is half of what a record costs.
        self._items = [
            change.item_id.encode() if isinstance(change, Acted) else "".join(change.item_ids).encode()
            for change in self.changes
        ]
        self._rows = [
            _pack(
                position,
                change.ts_ms,
                change.kafka_ms,
                event,
                _hash(item),
                request,
                _NAN if change.value is None else change.value,
                0,
                change.action,
                len(item),
            )
            if isinstance(change, Acted)
            else _exposures(change, position, event, request)
            for change, position, event, request, item in zip(
                self.changes, self.positions, self.events, self.requests, self._items, strict=True
            )
        ]

    def __len__(self) -> int:
        return len(self.changes)

    @cached_property
    def event_hashes(self) -> npt.NDArray[np.uint64]:
        """A hash of user and event id for each record; 0 where it has no id."""
        events = np.fromiter(self.events, np.uint64, len(self.events))
        if not events.any():
            return events
        salts = np.array([user_hash(user_id) for user_id in self.user_ids], np.uint64)
        counts = [end - start for start, end in self.bounds]
        hashes: npt.NDArray[np.uint64] = np.where(events != 0, events ^ np.repeat(salts, counts), np.uint64(0))
        return hashes

    def value(self, records: Sequence[int]) -> bytes:
        """The rows of some records, which ascend, as `Entries.to_bytes` gives them."""
        rows = b"".join([self._rows[record] for record in records])
        items = b"".join([self._items[record] for record in records])
        return (len(rows) // ROW.size).to_bytes(4, "little") + rows + items

    def entries(self, records: Sequence[int]) -> Entries:
        """The rows of some records, which ascend."""
        return entries_from([self.value(records)])


def _exposures(change: Exposed, position: int, event: int, request: int) -> bytes:
    rows = [
        _pack(position, change.ts_ms, change.kafka_ms, event, _hash(item), request, _NAN, index, -1, len(item))
        for index, item in enumerate(map(str.encode, change.item_ids))
    ]
    return b"".join(rows)


def user_hash(user_id: str) -> np.uint64:
    """What tells equal event ids of different users apart, which are different events."""
    return np.uint64(xxhash.xxh3_64_intdigest(user_id.encode(), 1))

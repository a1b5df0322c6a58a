"""The records of a chunk that bring rows, as columns, those of a user together and in the order of the log."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import xxhash

from storage.changes import Acted, Exposed
from storage.entries import ENTRY, OFFSET_BITS, Columns, Entries

_hash = xxhash.xxh3_64_intdigest


class Arrivals:
    """Records of one log epoch by user. A *record* is named by its place here, from 0."""

    def __init__(self, epoch: int, changes: Sequence[Exposed | Acted]) -> None:
        places: dict[str, int] = {}
        of_user = np.array([places.setdefault(change.user_id, len(places)) for change in changes], np.int64)
        self.user_ids = list(places)
        """Users of the records, in the order of their first one."""
        self.has_user = places.__contains__
        """Whether a user has a record here."""
        order = np.argsort(of_user, kind="stable")
        counts = np.bincount(of_user, minlength=len(places))
        ends = np.cumsum(counts)
        self.bounds = list(zip((ends - counts).tolist(), ends.tolist(), strict=True))
        """First record and end of each user."""
        ordered = [changes[place] for place in order.tolist()]
        rows = self._rows(epoch, ordered)
        self.positions: list[int] = rows["position"].tolist()
        self.ts_ms: list[int] = rows["ts_ms"].tolist()
        self.events: list[int] = rows["event"].tolist()
        self.is_action: list[bool] = (rows["action"] >= 0).tolist()
        items = _items(ordered, only_actions=all(self.is_action))
        self._widen(rows, ordered, items)
        self._items = b"".join(items)
        self._row_bytes = self._all_rows.tobytes()
        self._item_ends = [0, *np.cumsum(self._all_rows["item_bytes"], dtype=np.int64).tolist()]

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def event_hashes(self) -> npt.NDArray[np.uint64]:
        """A hash of user and event id for each record; 0 where it has no id."""
        events = np.array(self.events, np.uint64)
        if not events.any():
            return events
        salts = np.array([user_hash(user_id) for user_id in self.user_ids], np.uint64)
        counts = [end - start for start, end in self.bounds]
        hashes: npt.NDArray[np.uint64] = np.where(events != 0, events ^ np.repeat(salts, counts), np.uint64(0))
        return hashes

    def num_rows(self, start: int, end: int) -> int:
        """Rows that the records [start, end) bring."""
        num: int = self._row_ends[end] - self._row_ends[start]
        return num

    def value(self, start: int, end: int) -> bytes:
        """The rows of the records [start, end) as `Entries.to_bytes` gives them."""
        first, last = self._row_ends[start], self._row_ends[end]
        rows = self._row_bytes[first * ENTRY.itemsize : last * ENTRY.itemsize]
        value: bytes = (
            (last - first).to_bytes(4, "little") + rows + self._items[self._item_ends[first] : self._item_ends[last]]
        )
        return value

    def entries(self, start: int, end: int) -> Entries:
        """The rows of the records [start, end)."""
        first, last = self._row_ends[start], self._row_ends[end]
        return Entries(self._all_rows[first:last], self._items[self._item_ends[first] : self._item_ends[last]])

    def chosen(self, records: Sequence[int]) -> Entries:
        """The rows of some records, which ascend."""
        if not records or records[-1] - records[0] == len(records) - 1:
            return self.entries(records[0], records[-1] + 1) if records else self.entries(0, 0)
        return Entries.join([self.entries(record, record + 1) for record in records])

    @staticmethod
    def _rows(epoch: int, changes: Sequence[Exposed | Acted]) -> Columns:
        rows = np.zeros(len(changes), ENTRY)
        rows["position"] = [change.offset for change in changes]
        rows["position"] += epoch << OFFSET_BITS
        rows["ts_ms"] = [change.ts_ms for change in changes]
        rows["kafka_ms"] = [change.kafka_ms for change in changes]
        rows["event"] = [_hash(change.event_id.encode()) if change.event_id else 0 for change in changes]
        rows["request"] = [_hash(change.request_id.encode()) if change.request_id else 0 for change in changes]
        rows["value"] = [np.nan if change.value is None else change.value for change in changes]
        rows["action"] = [change.action for change in changes]
        return rows

    def _widen(self, rows: Columns, changes: Sequence[Exposed | Acted], items: list[bytes]) -> None:
        if len(items) > len(changes) or not all(self.is_action):
            counts = [len(change.item_ids) if isinstance(change, Exposed) else 1 for change in changes]
            self._row_ends = [0, *np.cumsum(counts).tolist()]
            rows = np.repeat(rows, counts)
            rows["index"] = np.arange(len(rows)) - np.repeat(self._row_ends[:-1], counts)
        else:
            self._row_ends = list(range(len(changes) + 1))
        rows["item"] = [_hash(item) for item in items]
        rows["item_bytes"] = [len(item) for item in items]
        self._all_rows = rows


def user_hash(user_id: str) -> np.uint64:
    """What tells equal event ids of different users apart, which are different events."""
    return np.uint64(xxhash.xxh3_64_intdigest(user_id.encode(), 1))


def _items(changes: Sequence[Exposed | Acted], *, only_actions: bool) -> list[bytes]:
    if only_actions:
        return [change.item_id.encode() for change in changes if isinstance(change, Acted)]
    items: list[bytes] = []
    for change in changes:
        if isinstance(change, Acted):
            items.append(change.item_id.encode())
        else:
            items += [item_id.encode() for item_id in change.item_ids]
    return items

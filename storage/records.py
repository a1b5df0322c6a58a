"""The impressions and actions of a chunk in columns: what the compiled parts of a store work on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """N impressions and actions in the order of the log, with M items together; ids stand in `text` as UTF-8."""

    text: npt.NDArray[np.uint8]
    """What the spans, pairs of first byte and end, point into."""
    offsets: Int64s
    ts_ms: Int64s
    kafka_ms: Int64s
    """The records' Kafka timestamps."""
    users: Int64s
    """Spans of the user ids, [N, 2]."""
    actions: Int64s
    """Indexes into the settings' actions; -1 for an impression."""
    values: npt.NDArray[np.float64]
    """Values of the actions; NaN where there is none."""
    events: Hashes
    """xxh3_64 of the event ids; 0 where there is none."""
    requests: Hashes
    """xxh3_64 of the request ids; 0 where there is none."""
    items: Int64s
    """Where each record's items begin among all, and M at the end, [N + 1]; an action has one."""
    item_spans: Int64s
    """Spans of the item ids, [M, 2]."""
    item_hashes: Hashes
    """xxh3_64 of the item ids."""

    def __len__(self) -> int:
        return len(self.offsets)

    def before(self, offset: int) -> "Records":
        """Those before an offset."""
        return self._part(0, int(np.searchsorted(self.offsets, offset)))

    def behind(self, offset: int) -> "Records":
        """Those after an offset."""
        return self._part(int(np.searchsorted(self.offsets, offset, side="right")), len(self))

    def _part(self, first: int, end: int) -> "Records":
        if (first, end) == (0, len(self)):
            return self
        item, item_end = self.items[first], self.items[end]
        return Records(
            text=self.text,
            offsets=self.offsets[first:end],
            ts_ms=self.ts_ms[first:end],
            kafka_ms=self.kafka_ms[first:end],
            users=self.users[first:end],
            actions=self.actions[first:end],
            values=self.values[first:end],
            events=self.events[first:end],
            requests=self.requests[first:end],
            items=self.items[first : end + 1] - item,
            item_spans=self.item_spans[item:item_end],
            item_hashes=self.item_hashes[item:item_end],
        )


def check_offsets(start: int, last: int, offsets: Int64s) -> None:
    """Raise `ValueError` unless offsets rise from `start` or later to `last` or before."""
    bounded = np.concatenate(([start - 1], offsets, [last + 1]))
    falls = np.flatnonzero(np.diff(bounded) <= 0)
    if len(offsets) and len(falls):
        before, offset = bounded[falls[0] : falls[0] + 2].tolist()
        raise ValueError(f"offsets of changes must rise from {start} to {last}, got {offset} after {before}")

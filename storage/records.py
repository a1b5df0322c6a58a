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
        end = int(np.searchsorted(self.offsets, offset))
        if end == len(self):
            return self
        item_end = self.items[end]
        return Records(
            text=self.text,
            offsets=self.offsets[:end],
            ts_ms=self.ts_ms[:end],
            kafka_ms=self.kafka_ms[:end],
            users=self.users[:end],
            actions=self.actions[:end],
            values=self.values[:end],
            events=self.events[:end],
            requests=self.requests[:end],
            items=self.items[: end + 1],
            item_spans=self.item_spans[:item_end],
            item_hashes=self.item_hashes[:item_end],
        )

    def behind(self, offset: int) -> "Records":
        """Those after an offset."""
        first = int(np.searchsorted(self.offsets, offset, side="right"))
        if first == 0:
            return self
        item = self.items[first]
        return Records(
            text=self.text,
            offsets=self.offsets[first:],
            ts_ms=self.ts_ms[first:],
            kafka_ms=self.kafka_ms[first:],
            users=self.users[first:],
            actions=self.actions[first:],
            values=self.values[first:],
            events=self.events[first:],
            requests=self.requests[first:],
            items=self.items[first:] - item,
            item_spans=self.item_spans[item:],
            item_hashes=self.item_hashes[item:],
        )

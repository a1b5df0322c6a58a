"""The partition's event time as the records of a chunk move it on, and which timers that makes fire."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Timeline:
    """Positions of a chunk's valid records, and the watermark after each: the newest event time so far."""

    def __init__(self, watermark_ms: int, positions: Sequence[int], ts_ms: Sequence[int]) -> None:
        self.positions = positions
        self.watermarks = list(accumulate(ts_ms, max, initial=watermark_ms))[1:]
        self.end_ms = self.watermarks[-1] if self.watermarks else watermark_ms
        """The watermark after the chunk."""

    def fires_at(self, due_ms: int, not_before: int) -> int | None:
        """Position of the record after which a timer fires, `not_before` at the earliest; None in this chunk."""
        place = bisect_left(self.watermarks, due_ms)
        return None if place == len(self.positions) else max(self.positions[place], not_before)

    def watermark_at(self, position: int) -> int:
        """The watermark after the record of this position."""
        return self.watermarks[bisect_left(self.positions, position)]

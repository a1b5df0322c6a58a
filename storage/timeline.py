"""The partition's event time as the records of a chunk move it on, and which timers that makes fire."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate


class Timeline:
    """Positions of a chunk's valid records, and the watermark after each: the newest event time so far."""

    def __init__(self, watermark_ms: int, positions: Sequence[int], ts_ms: Sequence[int]) -> None:
        self._watermark_ms = watermark_ms
        self._positions = positions
        self._ts_ms = ts_ms
        self.end_ms = max(watermark_ms, max(ts_ms, default=0))
        """The watermark after the chunk."""

    def before(self, places: Sequence[int]) -> list[int]:
        """The watermark before each of the records at these places."""
        marks = self._marks
        return [marks[place] for place in places]

    def fires_at(self, due_ms: int, not_before: int) -> int | None:
        """Position of the record after which a timer fires, `not_before` at the earliest; None in this chunk."""
        if due_ms > self.end_ms:
            return None
        return max(self._positions[bisect_left(self._watermarks, due_ms)], not_before)

    def watermark_at(self, position: int) -> int:
        """The watermark after the record of this position."""
        return self._watermarks[bisect_left(self._positions, position)]

    @cached_property
    def _watermarks(self) -> list[int]:
        return self._marks[1:]

    @cached_property
    def _marks(self) -> list[int]:
        """The watermark before each record, and after the last."""
        return list(accumulate(self._ts_ms, max, initial=self._watermark_ms))

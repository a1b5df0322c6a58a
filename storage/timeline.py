"""The partition's event time as the records of a chunk move it on, and which timers that makes fire."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import TypeAlias

from storage.changes import Acted, Exposed, Ticked, Updated
from storage.entries import pack_position

Timed: TypeAlias = Exposed | Acted | Updated | Ticked


class Timeline:
    """Positions of a chunk's valid records, and the watermark after each: the newest event time so far."""

    def __init__(self, watermark_ms: int, epoch: int, records: Sequence[Timed]) -> None:
        self._epoch = epoch
        self._records = records
        self._marks = list(accumulate([record.ts_ms for record in records], max, initial=watermark_ms))
        """The watermark before each record, and after the last."""
        self.end_ms = self._marks[-1]
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
    def _positions(self) -> list[int]:
        return [pack_position(self._epoch, record.offset) for record in self._records]

"""The partition's event time as the records of a chunk move it on, and which timers that makes fire."""

from typing import NamedTuple

import numpy as np

from storage.compiled import compiled
from storage.records import Int64s


class Timeline(NamedTuple):
    """Positions of a chunk's valid records, and the *watermark* before each: the newest event time so far."""

    positions: Int64s
    watermarks: Int64s
    """Before each record, and after the last."""

    @property
    def end_ms(self) -> int:
        """The watermark after the chunk."""
        return int(self.watermarks[-1])


def timeline(watermark_ms: int, positions: Int64s, ts_ms: Int64s) -> Timeline:
    """That of records at these positions, with these event times, behind a watermark."""
    return Timeline(positions, np.maximum.accumulate(np.concatenate(([watermark_ms], ts_ms))))


@compiled
def fires_at(timeline: Timeline, due_ms: int, not_before: int) -> int:
    """Position of the record after which a timer fires that is due by the chunk's end, `not_before` at the earliest."""
    return int(max(timeline.positions[np.searchsorted(timeline.watermarks[1:], due_ms)], not_before))


@compiled
def watermark_at(timeline: Timeline, position: int) -> int:
    """The watermark after the record of this position."""
    return int(timeline.watermarks[1 + np.searchsorted(timeline.positions, position)])

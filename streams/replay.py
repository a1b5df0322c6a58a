"""A data set as live events: each row an impression of its item, and an action for each bit of its mask.

The pace is what the learner keeps up with: a row a moment, faster while the learner is close behind, slower when it
falls back, none while it is away.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from streams.dataset import Dataset
from streams.events import Action, Event, Impression

TICK_SECONDS = 0.05
"""Rows are sent in bursts of so much time."""
ADJUST_SECONDS = 0.25
"""How often the pace is adjusted."""


def row_events(dataset: Dataset, row: int) -> Iterator[Event]:
    """The events of one row; ids name the row, so that a second replay makes the same events."""
    user_id, item_id = dataset.user_ids[row], dataset.item_ids[row]
    ts_ms, value = int(dataset.ts_ms[row]), float(dataset.values[row])
    request_id = f"r{row}"
    yield Impression(event_id=f"i{row}", request_id=request_id, user_id=user_id, ts_ms=ts_ms, items=[item_id])
    mask = int(dataset.actions[row])
    for place, action in enumerate(dataset.action_names):
        if mask >> place & 1:
            yield Action(
                event_id=f"a{row}.{place}",
                request_id=request_id,
                user_id=user_id,
                item_id=item_id,
                ts_ms=ts_ms,
                action=action,
                value=None if math.isnan(value) else value,
            )


@dataclass(kw_only=True, slots=True)
class Pace:
    """Rows a second, raised by a tenth while the learner is close behind, cut by a third when it falls back."""

    rate: float = 200.0
    least: float = 20.0
    most: float = 20_000.0
    close_seconds: float = 1.0
    far_seconds: float = 2.0

    def adjust(self, behind_seconds: float | None) -> float:
        """The new rate; `behind_seconds` is how far the learner is behind, None while it cannot be asked.

        >>> Pace(rate=100).adjust(0.2), Pace(rate=100).adjust(3), Pace(rate=100).adjust(None)
        (110.0, 67.0, 0.0)
        """
        if behind_seconds is None:
            return 0.0
        if behind_seconds < self.close_seconds:
            self.rate = min(self.most, round(self.rate * 1.1, 6))
        elif behind_seconds > self.far_seconds:
            self.rate = max(self.least, round(self.rate * 0.67, 6))
        return self.rate


class Sender(Protocol):
    """What replays need of a producer."""

    def send(self, event: Event) -> object:
        """Send one event."""


def replay(
    dataset: Dataset,
    sender: Sender,
    *,
    behind: Callable[[], float | None],
    before_row: Callable[[int], None] = lambda row: None,
    pace: Pace | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send every row in order at the learner's pace; `before_row` is called ahead of each."""
    pace = pace or Pace()
    rate, adjusted, credit, last = pace.rate, clock(), 0.0, clock()
    row = 0
    while row < len(dataset):
        now = clock()
        if now - adjusted >= ADJUST_SECONDS:
            rate, adjusted = pace.adjust(behind()), now
        credit = min(rate, credit + (now - last) * rate)
        last = now
        while credit >= 1 and row < len(dataset):
            before_row(row)
            for event in row_events(dataset, row):
                sender.send(event)
            row, credit = row + 1, credit - 1
        sleep(TICK_SECONDS)

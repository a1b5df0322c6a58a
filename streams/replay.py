"""A data set as live events: an impression for each row, or for the rows shown together, and an action for each bit.

The pace is what the learner keeps up with: a row a moment, faster while the learner is close behind, slower when it
falls back, none while it is away.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from streams.dataset import Dataset
from streams.events import Action, Event, Impression

TICK_SECONDS = 0.05
"""Rows are sent in bursts of so much time."""
ADJUST_SECONDS = 0.25
"""How often the pace is adjusted."""
TRIAL_RATE = 200.0
"""Rows a second that are sent whether or not anything is learned of them."""
SMOOTHING = 0.15
"""Weight of the newest look in what the learner learns a second."""


def row_events(dataset: Dataset, row: int) -> Iterator[Event]:
    """The events of one row; ids name the row, so that a second replay makes the same events.

    Of rows that were shown together the first brings the impression.
    """
    user_id, item_id = dataset.user_ids[row], dataset.item_ids[row]
    ts_ms, value = int(dataset.ts_ms[row]), float(dataset.values[row])
    shown = dataset.shown_with(row)
    request_id = f"r{shown.start}"
    if row == shown.start:
        items = dataset.item_ids[shown.start : shown.stop]
        yield Impression(event_id=f"i{row}", request_id=request_id, user_id=user_id, ts_ms=ts_ms, items=items)
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


class LearnerPosition(NamedTuple):
    """How far the learner is: events learned since it started, and the age of the newest of them (0 when idle)."""

    events: float
    behind_seconds: float


@dataclass(kw_only=True, slots=True)
class Pace:
    """Rows a second: up to twice what is learned while the learner is close behind; a part of it while it is not."""

    rate: float = TRIAL_RATE
    least: float = 20.0
    most: float = 20_000.0
    close_seconds: float = 0.8
    far_seconds: float = 1.6
    _learned: float = 0.0
    """What the learner learns a second, smoothed over a few seconds."""
    _former: tuple[float, float] | None = None

    def adjust(self, learner: LearnerPosition | None, now: float) -> float:
        """The rate from now on; `learner` is None while it cannot be asked: then nothing is sent.

        >>> pace = Pace(rate=100)
        >>> pace.adjust(LearnerPosition(0, 0.2), 0.0), pace.adjust(None, 1.0)
        (115.0, 0.0)
        >>> pace.adjust(LearnerPosition(0, 3.0), 2.0)
        20.0
        """
        if learner is None:
            self._former = None
            return 0.0
        if self._former is not None and learner.events >= self._former[0]:
            learned = (learner.events - self._former[0]) / max(now - self._former[1], 1e-6)
            self._learned += SMOOTHING * (learned - self._learned)
        self._former = (learner.events, now)
        if learner.behind_seconds < self.close_seconds:
            # A learner that learns nothing is close behind, too: the worker before it may be away.
            self.rate = min(1.15 * self.rate, max(TRIAL_RATE, 2 * self._learned))
        else:
            share = 1.0 if learner.behind_seconds < self.far_seconds else 0.6
            self.rate = share * self._learned
        self.rate = round(min(self.most, max(self.least, self.rate)), 6)
        return self.rate


class Sender(Protocol):
    """What replays need of a producer."""

    def send(self, event: Event) -> object:
        """Send one event."""


def replay(
    dataset: Dataset,
    sender: Sender,
    *,
    learner: Callable[[], LearnerPosition | None],
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
            rate, adjusted = pace.adjust(learner(), now), now
        credit = min(max(1.0, rate), credit + (now - last) * rate)
        last = now
        while credit >= 1 and row < len(dataset):
            before_row(row)
            for event in row_events(dataset, row):
                sender.send(event)
            row, credit = row + 1, credit - 1
        sleep(TICK_SECONDS)

"""A data set as live events: an impression for each row, or for the rows shown together, and an action for each bit.

The pace is a share of what the learner could learn, by what it says of its own work, so that events do not wait in
line; none is sent while it is away.
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
SHARE = 0.8
"""Of the learner's throughput that is sent."""
SMOOTHING = 0.15
"""Share of the older looks that each newer one replaces."""


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
    """How far the learner is."""

    events: float
    """Events learned since it started."""
    behind_seconds: float
    """Age of the newest of them; 0 when idle."""
    busy_seconds: float
    """Time that learning them took."""


@dataclass(kw_only=True, slots=True)
class Pace:
    """Rows a second: `SHARE` of the learner's throughput, half of that while it is far behind all the same.

    The throughput is the events that it learned for each second that it worked, so it is known without ever filling
    the learner's time; a row is taken for an event. Full micro-batches are learned faster than small ones: a learner
    that is close behind gets `TRIAL_RATE` at least. No more than twice what is learned is sent, so that little piles
    up where the learner waits because the worker before it is away.
    """

    rate: float = TRIAL_RATE
    least: float = 20.0
    most: float = 20_000.0
    close_seconds: float = 0.8
    far_seconds: float = 1.6
    _learned: float = 0.0
    """What the learner learns a second, smoothed over a few seconds."""
    _events: float = 0.0
    _busy_seconds: float = 0.0
    """Events learned, and the time that took, of the last looks, the older the less."""
    _former: tuple[LearnerPosition, float] | None = None

    def adjust(self, learner: LearnerPosition | None, now: float) -> float:
        """The rate from now on; `learner` is None while it cannot be asked: then nothing is sent.

        >>> pace = Pace(rate=1_000)
        >>> pace.adjust(LearnerPosition(0, 0.2, 0), 0.0), pace.adjust(None, 1.0)
        (200.0, 0.0)
        >>> for second in range(2, 60):
        ...     rate = pace.adjust(LearnerPosition(500 * second, 0.2, 0.5 * second), second)
        >>> rate
        800.0
        """
        if learner is None:
            self._former = None
            return 0.0
        self._look(learner, now)
        is_close = learner.behind_seconds < self.close_seconds
        share = SHARE if learner.behind_seconds < self.far_seconds else SHARE / 2
        wanted = share * self._events / self._busy_seconds if self._busy_seconds else TRIAL_RATE
        wanted = min(wanted, 1.15 * self.rate, max(TRIAL_RATE, 2 * self._learned))
        wanted = max(wanted, min(TRIAL_RATE, 1.15 * self.rate) if is_close else 0.0)
        self.rate = round(min(self.most, max(self.least, wanted)), 6)
        return self.rate

    def _look(self, learner: LearnerPosition, now: float) -> None:
        """Measure what was learned since the former look, unless the learner was restarted."""
        if self._former is not None and learner.events >= self._former[0].events:
            former, then = self._former
            events, busy_seconds = learner.events - former.events, max(0.0, learner.busy_seconds - former.busy_seconds)
            self._learned += SMOOTHING * (events / max(now - then, 1e-6) - self._learned)
            if busy_seconds:
                self._events += events - SMOOTHING * self._events
                self._busy_seconds += busy_seconds - SMOOTHING * self._busy_seconds
        self._former = (learner, now)


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

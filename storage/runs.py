"""Users' records of a chunk, taken one after the other: late ones, counts, samples, timers.

For each user, in compiled code:

1. Before each record, the user's timer fires where the watermark had passed it.
2. A duplicate by event id changes nothing; one older than the floor of a full sequence is counted.
3. A sequence with too many rows is trimmed.
4. The record is pending: a sample is due by count, or a timer is set.

What takes the database (`SUSPECT`, `TRIM`, `READ`) is left to `storage.user_run`; the user goes on where it stopped.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from storage.compiled import compiled
from storage.msgpack_bytes import Bytes
from storage.recent import Recent, act, begin, load, save, show, tell
from storage.records import Int64s
from storage.sample_body import put_body
from storage.states import (
    FIRST_TS,
    FLOOR_TS,
    LAST_TS,
    NUM_ACTIONS,
    NUM_EXPOSURES,
    NUM_ROWS,
    NUM_SURVIVORS,
    SINCE,
    TIMER_DUE,
)
from storage.store_settings import StoreSettings
from storage.timeline import Timeline, fires_at, watermark_at

SPARE_EVENTS = 16
"""Newest events beyond twice those of a sample at which the oldest go."""
MAX_REQUESTS = 4_096
"""Requests named by a user's actions that are kept in mind."""
DONE, SUSPECT, TRIM, READ = range(4)
"""Why a user's run stopped: it is at its end; a record's id may be known; there are too many rows; a sample is due and
the newest events are not at hand."""

PROGRESS = 5
CURSOR, STAGE, SET_AT, HAS_RECENT, BEGIN = range(PROGRESS)
"""How far a user is: the next record, what is next to be done with it, where the timer was set, whether the newest
events are at hand, the first record behind the last trim."""
AT_RECORD, CHECKED, COUNT, TRIGGER = range(4)

SAMPLE = 7
USER, POSITION, DUE_MS, FROM, NUM_RECORDS, BODY, BODY_END = range(SAMPLE)
"""What stands of a sample that became due; BODY is -1 where it has to be read."""

COUNTS = 4
ACTED, EXPOSED, TOO_LATE, NUM_SAMPLES = range(COUNTS)
MIN_BODY_BYTES = 65_536
"""Room for bodies below which a user's newest events are not read."""


class Rules(NamedTuple):
    """Settings in the units of the rows."""

    cap: int
    sample_every: int
    sample_exposures: int
    label_delay_ms: int
    session_gap_ms: int
    window_ms: int
    last: int = 0
    """Events that bodies hold, at least; 0 where none are made."""
    most_events: int = 0
    """Newest events of a user at which the oldest go."""
    most_requests: int = 0
    """Requests named by a user's actions that are kept in mind."""

    @classmethod
    def of(cls, settings: StoreSettings) -> "Rules":
        """Those of a store."""
        return cls(
            settings.cap,
            settings.sample_every,
            settings.sample_exposures,
            round(settings.label_delay_seconds * 1000),
            round(settings.session_gap_seconds * 1000),
            round(settings.attribution_seconds * 1000),
        )

    def preparing(self, last: int) -> "Rules":
        """The same, with bodies of `last` events made, or none."""
        return self._replace(last=last, most_events=2 * last + SPARE_EVENTS, most_requests=MAX_REQUESTS)


class Rows(NamedTuple):
    """The records of a chunk, those of user u at `order[bounds[u]:bounds[u + 1]]`."""

    order: Int64s
    bounds: Int64s
    positions: Int64s
    watermarks: Int64s
    """Before each record."""
    ts_ms: Int64s
    kafka_ms: Int64s
    actions: Int64s
    values: npt.NDArray[np.float64]
    value_bits: Int64s
    requests: Int64s
    items: Int64s
    """Bounds of each record's items."""
    names: Int64s
    """Numbers of the items."""
    suspects: npt.NDArray[np.bool_]
    """Whether a record has an id that may be kept already."""
    taken: npt.NDArray[np.bool_]
    """Whether a record's rows are kept."""


class Made(NamedTuple):
    """What comes of users' runs."""

    states: npt.NDArray[np.int64]
    """See `storage.states`."""
    progress: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]
    bodies: Bytes
    counts: Int64s


class Kept(NamedTuple):
    """Item ids by number, and the newest events of users before and behind; of who has none, an empty run."""

    names: Bytes
    name_ends: Int64s
    saved: Int64s
    bounds: Int64s
    out: Int64s
    out_bounds: Int64s
    recent: Recent
    """Room for one user's."""


@compiled
def run_users(
    users: Int64s, rules: Rules, timeline: Timeline, rows: Rows, made: Made, kept: Kept, codes: Int64s
) -> None:
    """Take the records of these users as far as it goes; `codes` say why each stopped."""
    at = 0
    kept.out_bounds[0] = 0
    for place in range(len(users)):
        progress = made.progress[users[place]]
        progress[HAS_RECENT] = kept.bounds[place + 1] > kept.bounds[place]
        if progress[HAS_RECENT]:
            load(kept.recent, kept.saved, kept.bounds[place])
        codes[place] = _run(users[place], rules, timeline, rows, made, kept)
        if progress[HAS_RECENT]:
            at = save(kept.recent, kept.out, at)
        kept.out_bounds[place + 1] = at


@compiled
def _run(user: int, rules: Rules, timeline: Timeline, rows: Rows, made: Made, kept: Kept) -> int:
    progress = made.progress[user]
    while progress[CURSOR] < rows.bounds[user + 1]:
        code = _run_record(user, rows.order[progress[CURSOR]], rules, timeline, rows, made, kept)
        if code != DONE:
            return code
        progress[CURSOR] += 1
        progress[STAGE] = AT_RECORD
    return DONE if _fire(user, timeline.watermarks[-1], rules, timeline, made, kept) else READ


@compiled
def _run_record(user: int, record: int, rules: Rules, timeline: Timeline, rows: Rows, made: Made, kept: Kept) -> int:
    """Do with a record what is next to be done; `DONE` where that is all."""
    state, progress = made.states[user], made.progress[user]
    if progress[STAGE] == AT_RECORD:
        if not _fire(user, rows.watermarks[record], rules, timeline, made, kept):
            return READ
        if rows.suspects[record]:
            return SUSPECT
        progress[STAGE] = CHECKED
    if progress[STAGE] == CHECKED:
        if rows.ts_ms[record] < state[FLOOR_TS]:
            made.counts[TOO_LATE] += 1
            return DONE
        _take(user, record, rules, rows, made, kept)
        progress[STAGE] = COUNT
        if state[NUM_ROWS] >= 2 * max(rules.cap, state[NUM_SURVIVORS]):
            return TRIM
    if progress[STAGE] == COUNT:
        if not _count(record, rules, rows, made, state):
            if not state[TIMER_DUE]:
                state[TIMER_DUE] = _due(rules, state)
                progress[SET_AT] = rows.positions[record]
            return DONE
        progress[STAGE] = TRIGGER
    return DONE if _trigger(user, rows.positions[record], 0, rules, made, kept) else READ


@compiled
def _take(user: int, record: int, rules: Rules, rows: Rows, made: Made, kept: Kept) -> None:
    """Keep a record's rows, and follow it with the newest events, if they are at hand."""
    state, progress = made.states[user], made.progress[user]
    rows.taken[record] = True
    start, end = rows.items[record], rows.items[record + 1]
    state[NUM_ROWS] += end - start
    if not progress[HAS_RECENT]:
        return
    head = (rows.positions[record], rows.ts_ms[record], rows.kafka_ms[record], rows.requests[record])
    if rows.actions[record] < 0:
        progress[HAS_RECENT] = show(kept.recent, head, rows.names[start:end])
        return
    event = act(kept.recent, rules.window_ms, rules.most_requests, head, rows.names[start], rows.actions[record])
    progress[HAS_RECENT] = event >= 0
    if event >= 0 and not np.isnan(rows.values[record]):
        tell(kept.recent, event, rows.actions[record], rows.value_bits[record])


@compiled
def _count(record: int, rules: Rules, rows: Rows, made: Made, state: Int64s) -> bool:
    """Count a record as pending; whether that makes a sample due."""
    ts_ms = rows.ts_ms[record]
    if not (state[NUM_ACTIONS] or state[NUM_EXPOSURES]):
        state[FIRST_TS] = ts_ms
    state[LAST_TS] = max(state[LAST_TS], ts_ms)
    if rows.actions[record] >= 0:
        state[NUM_ACTIONS] += 1
        made.counts[ACTED] += 1
    else:
        num = rows.items[record + 1] - rows.items[record]
        state[NUM_EXPOSURES] += num
        made.counts[EXPOSED] += num
    return bool(state[NUM_ACTIONS] >= rules.sample_every or state[NUM_EXPOSURES] >= rules.sample_exposures)


@compiled
def _due(rules: Rules, state: Int64s) -> int:
    """When a timer of the user is due; 0: never."""
    if not rules.label_delay_ms:
        return int(state[LAST_TS]) + rules.session_gap_ms if rules.session_gap_ms else 0
    if not rules.session_gap_ms:
        return int(state[FIRST_TS]) + rules.label_delay_ms
    return int(min(state[FIRST_TS] + rules.label_delay_ms, state[LAST_TS] + rules.session_gap_ms))


@compiled
def _fire(user: int, watermark_ms: int, rules: Rules, timeline: Timeline, made: Made, kept: Kept) -> bool:
    """Fire the user's timer at the records up to where the watermark is this.

    False where the newest events are wanted first.
    """
    state, progress = made.states[user], made.progress[user]
    while 0 < state[TIMER_DUE] <= watermark_ms:
        at = fires_at(timeline, state[TIMER_DUE], progress[SET_AT])
        if not (state[NUM_ACTIONS] or state[NUM_EXPOSURES]):
            state[TIMER_DUE] = 0
            return True
        due_ms = _due(rules, state)
        if due_ms > watermark_at(timeline, at):
            state[TIMER_DUE] = due_ms
            progress[SET_AT] = at
            continue
        if not _trigger(user, at, state[TIMER_DUE], rules, made, kept):
            return False
        state[TIMER_DUE] = 0
    return True


@compiled
def _trigger(user: int, position: int, due_ms: int, rules: Rules, made: Made, kept: Kept) -> bool:
    """Make a sample of all that is pending; False where the newest events are wanted first."""
    state, num = made.states[user], made.counts[NUM_SAMPLES]
    used = made.samples[num, BODY]
    body = -1
    if made.progress[user, HAS_RECENT]:
        body = put_body(kept.recent, rules.last, kept.names, kept.name_ends, made.bodies, used)
        begin(kept.recent, rules.last, rules.most_events)
    elif rules.last and used + MIN_BODY_BYTES <= len(made.bodies):
        return False
    sample = made.samples[num]
    sample[USER], sample[POSITION], sample[DUE_MS] = user, position, due_ms
    sample[FROM], sample[NUM_RECORDS] = state[SINCE], state[NUM_ACTIONS] + state[NUM_EXPOSURES]
    sample[BODY], sample[BODY_END] = used if body >= 0 else -1, body
    # Where the next body begins.
    made.samples[num + 1, BODY] = max(used, body)
    made.counts[NUM_SAMPLES] = num + 1
    state[SINCE] = position
    state[NUM_ACTIONS] = state[NUM_EXPOSURES] = 0
    return True

"""Random logs of `events`, and what the store and the plain fold make of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hypothesis import strategies as st

from storage.changes import Feature, ForgetRef, SampleRef
from storage.entries import unpack_position
from storage.folded import FoldedSequence, Update
from storage.keys import OutboxKey
from storage.sample_body import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, NEW_LATE_ACTION
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.decoding import ChangeDecoder
from streams.events import Action, Event, Forget, Impression, Tick, UserUpdate, encode_event
from streams.forgotten import Due, Forgotten, decode_due
from streams.plain_fold import FoldRules, PlainDue, PlainEvent, PlainPartition, is_sampled
from streams.samples import Sample, decode_sample, segments_of
from streams.sampling import build_forgotten, build_samples
from tests.streams.made_samples import LOG_ID

ACTIONS = ("like", "dislike", "rate")
USERS = ("ada", "ada", "ada", "böb", "bob")
KAFKA_MS = 10**9

IDS = st.none() | st.none() | st.integers(0, 400).map(lambda number: f"e{number}") | st.sampled_from(["d1", "d2", "d3"])
TIMES = st.integers(0, 30)
ITEMS = st.sampled_from(["a", "b", "ç", "dd"])
REQUESTS = st.sampled_from([None, None, "r1", "r2"])
FEATURES: st.SearchStrategy[dict[str, Feature]] = st.dictionaries(
    st.sampled_from(["age", "city"]), st.sampled_from([1, 2, True, "x"]), min_size=1
)
IMPRESSIONS = st.builds(
    Impression,
    event_id=IDS,
    user_id=st.sampled_from(USERS),
    ts_ms=TIMES,
    items=st.lists(ITEMS, min_size=1, max_size=4),
    request_id=REQUESTS,
)
ACTS = st.builds(
    Action,
    event_id=IDS,
    user_id=st.sampled_from(USERS),
    item_id=ITEMS,
    ts_ms=TIMES,
    action=st.sampled_from(ACTIONS),
    value=st.sampled_from([None, 1.0, -2.5]),
    request_id=REQUESTS,
)
UPDATES = st.builds(UserUpdate, event_id=IDS, user_id=st.sampled_from(USERS), ts_ms=TIMES, features=FEATURES)
TICKS = st.builds(Tick, event_id=IDS, ts_ms=st.integers(0, 40))
EVENTS: st.SearchStrategy[Event] = IMPRESSIONS | ACTS | ACTS | ACTS | UPDATES | TICKS
FORGETS = st.builds(Forget, user_id=st.sampled_from(USERS), ts_ms=st.integers(0, 10**9))
FORGETFUL: st.SearchStrategy[Event] = st.integers(0, 14).flatmap(lambda one: FORGETS if one == 0 else EVENTS)
SIZES = st.sampled_from([0, 5, 40, 80])
LOGS = SIZES.flatmap(lambda size: st.lists(EVENTS, min_size=size, max_size=size + 5))
FORGETFUL_LOGS = SIZES.flatmap(lambda size: st.lists(FORGETFUL, min_size=size, max_size=size + 5))


@st.composite
def settings_of(draw: st.DrawFn, *, trims: bool = True) -> StoreSettings:
    """Settings under which a log of eighty records meets every rule; without trims, a cap that is out of reach."""
    every, exposures = draw(st.sampled_from([1, 2, 6])), draw(st.sampled_from([1, 5, 12]))
    return StoreSettings(
        actions=ACTIONS,
        cap=every + exposures + draw(st.integers(0, 6)) if trims else 8_192,
        sample_every=every,
        sample_exposures=exposures,
        attribution_seconds=draw(st.sampled_from([0.0, 0.003, 0.01, 1.0])),
        label_delay_seconds=draw(st.sampled_from([0.0, 0.004, 0.02])),
        session_gap_seconds=draw(st.sampled_from([0.0, 0.002, 0.015])),
        exposure_rate=draw(st.sampled_from([1.0, 1.0, 0.5])),
    )


class LogRecord(NamedTuple):
    """A record of `events`."""

    offset: int
    key: bytes | None
    value: bytes
    timestamp: int


def record_of(offset: int, event: Event) -> LogRecord:
    """The record that holds an event."""
    key = None if isinstance(event, Tick) else event.user_id.encode()
    return LogRecord(offset, key, encode_event(event), KAFKA_MS + offset)


def long_log(seed: int, num_events: int, *, forgets: float = 0) -> list[Event]:
    """Two users and many items over some hours, records late by up to a minute, some of them sent twice.

    A share of `forgets` of the records has a user forgotten.
    """
    rng, events, now_ms = Random(seed), list[Event](), 100_000
    shown: dict[str, Impression] = {}
    for number in range(num_events):
        now_ms += rng.choice([0, 1, 500, 9_000])
        about: dict[str, Any] = {"event_id": rng.choice([None, f"e{number}"]), "user_id": rng.choice(["ada", "böb"])}
        about["ts_ms"] = now_ms - rng.choice([0, 0, 0, 700, 60_000])
        kind, last = rng.random(), shown.get(about["user_id"])
        if forgets and rng.random() < forgets:
            events.append(Forget(user_id=about["user_id"], ts_ms=now_ms))
        elif kind < 0.05 and events:
            events.append(rng.choice(events[-50:]))
        elif kind < 0.08:
            events.append(Tick(ts_ms=now_ms))
        elif kind < 0.12:
            events.append(UserUpdate(**about, features={"n": rng.randrange(3)}))
        elif kind < 0.5 or last is None:
            items = [f"i{rng.randrange(60)}" for _ in range(rng.randrange(1, 6))]
            event = Impression(**about, items=items, request_id=rng.choice([None, f"r{number}"]))
            shown[event.user_id] = event
            events.append(event)
        else:
            item_id, request_id = rng.choice([*last.items, "x"]), rng.choice([None, last.request_id])
            value = rng.choice([None, 1.0, 4.5])
            action = Action(**about, item_id=item_id, action=rng.choice(ACTIONS), value=value, request_id=request_id)
            events.append(action)
    return events


@dataclass(slots=True)
class Outcome:
    """All samples of a log, as they were sent, and counters."""

    samples: list[Due] = field(default_factory=list)
    duplicates: int = 0
    too_late: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a chunk of a log ends, and what happens then."""

    end: int
    restart: bool
    send: bool
    """Whether the outbox is emptied."""


CUTS = st.lists(st.builds(Cut, end=st.integers(1, 85), restart=st.booleans(), send=st.booleans()), max_size=6)


def plain_outcome(settings: StoreSettings, events: Sequence[Event], last: int) -> tuple[PlainPartition, Outcome]:
    """What the plain fold makes of a log; bodies are built when they become due."""
    partition, outcome = PlainPartition(FoldRules.of(settings)), Outcome()
    for position, event in enumerate(events):
        for due in partition.apply(event, position, KAFKA_MS + position):
            is_forgotten = isinstance(event, Forget)
            outcome.samples.append(plain_word(due) if is_forgotten else plain_sample(partition, due, last))
    outcome.duplicates = sum(user.duplicates for user in partition.users.values())
    outcome.too_late = sum(user.too_late for user in partition.users.values())
    return partition, outcome


def plain_word(due: PlainDue) -> Forgotten:
    """What tells that a user has just been forgotten."""
    return Forgotten(topic_id=LOG_ID, epoch=0, partition=0, trigger_offset=due.position, n=due.n, user_id=due.user_id)


def arrived(outcome: Outcome, events: Sequence[Event], cuts: Iterable[Cut]) -> list[Due]:
    """The samples but for those that were not sent by when their user was forgotten."""
    sent = {min(cut.end, len(events)) for cut in cuts if cut.send}
    forgotten = [(place, event.user_id) for place, event in enumerate(events) if isinstance(event, Forget)]

    def arrives(sample: Due) -> bool:
        due = sample.trigger_offset
        ends = [place for place, user_id in forgotten if user_id == sample.user_id and place > due]
        return isinstance(sample, Forgotten) or not ends or any(due < end <= ends[0] for end in sent)

    return [sample for sample in outcome.samples if arrives(sample)]


def plain_sample(partition: PlainPartition, due: PlainDue, last: int) -> Sample:
    """The body of a sample that has just become due."""
    user = partition.users[due.user_id]
    events = user.sequence(partition.rules)[0]
    oldest_new = next((place for place, event in enumerate(events) if event.last > due.since), len(events))
    events = events[min(oldest_new, max(0, len(events) - last)) :]
    valued = [(place, *value) for place, event in enumerate(events) for value in event.values]
    ts_ms = [event.row.ts_ms for event in events]
    told = [Update(each.position, each.ts_ms, each.name, each.value) for each in sorted(user.updates, key=_order)]
    return Sample(
        topic_id=LOG_ID,
        epoch=0,
        partition=0,
        trigger_offset=unpack_position(due.position)[1],
        n=due.n,
        since=due.since,
        user_id=due.user_id,
        item_ids=[event.row.item_id for event in events],
        ts_ms=ts_ms,
        actions=[event.actions for event in events],
        groups=[event.row.position for event in events],
        new=[_bits(event, due.since, partition.rules.exposure_rate) for event in events],
        value_places=[place for place, _, _ in valued],
        value_actions=[action for _, action, _ in valued],
        values=[value for _, _, value in valued],
        features=segments_of(told, ts_ms),
        exposure_rate=partition.rules.exposure_rate,
        num_records=due.num_records,
        kafka_ms=[row.kafka_ms for row in user.rows if row.position > due.since],
    )


def _order(update: Any) -> tuple[int, int, str]:
    return update.ts_ms, update.position, update.name


def _bits(event: PlainEvent, since: int, rate: float) -> int:
    bits = NEW_EXPOSURE if event.shown and event.row.position > since else 0
    if event.acted > since:
        was_bare = event.shown and not bits and is_sampled(replace(event, acts=[]), rate)
        return bits | NEW_ACTION | (NEW_LATE_ACTION if was_bare else 0)
    return bits | (NEW_FURTHER_ACTION if event.acts and event.last > since else 0)


def stored_outcome(
    settings: StoreSettings, events: Sequence[Event], cuts: Iterable[Cut], last: int
) -> tuple[SequenceStore, Outcome]:
    """What the store makes of a log that is cut; the caller closes it."""
    store, outcome, start = open_store(settings, last), Outcome(), 0
    decoder = ChangeDecoder(ACTIONS)
    whole = Cut(len(events), restart=False, send=True)
    for cut in [*sorted((cut for cut in cuts if cut.end < len(events)), key=lambda cut: cut.end), whole]:
        if cut.end > start:
            changes = decoder.decode([record_of(offset, events[offset]) for offset in range(start, cut.end)])
            applied = store.apply(start, cut.end - 1, changes)
            outcome.duplicates += applied.duplicates
            outcome.too_late += applied.too_late
            start = cut.end
        if cut.send:
            outcome.samples += send(store, last)
        if cut.restart:
            store.close()
            store = open_store(settings, last)
    return store, outcome


def open_store(settings: StoreSettings, last: int) -> SequenceStore:
    store = SequenceStore.open(settings, topic="events", partition=0, num_partitions=1, topic_id=LOG_ID)
    store.prepare_samples(last)
    return store


def send(store: SequenceStore, last: int) -> list[Due]:
    """Empty the outbox as the sender does: all samples of a user are built together."""
    of_user: dict[str, list[tuple[OutboxKey, SampleRef]]] = {}
    samples: dict[OutboxKey, Due] = {}
    for key, item in store.outbox(10_000):
        if isinstance(item, ForgetRef):
            samples[key] = decode_due(build_forgotten(store, key, item))
        else:
            assert isinstance(item, SampleRef)
            of_user.setdefault(item.user_id, []).append((key, item))
    for due in of_user.values():
        keys = [key for key, _ in due]
        samples.update(zip(keys, map(decode_sample, build_samples(store, due, last)), strict=True))
    store.acknowledge(samples)
    return [samples[key] for key in sorted(samples)]


Rows = list[tuple[str, int, int, int, bool, list[tuple[int, float]]]]


def plain_rows(events: Sequence[PlainEvent]) -> Rows:
    """(item, time, actions, index, shown, values) of events: all that does not depend on the order of arrival."""
    return [(e.row.item_id, e.row.ts_ms, e.actions, e.row.slot, e.shown, e.values) for e in events]


def stored_rows(events: FoldedSequence) -> Rows:
    """As `plain_rows`."""
    values: dict[int, list[tuple[int, float]]] = {}
    for place, action, value in zip(
        events.value_places.tolist(), events.value_actions.tolist(), events.values.tolist(), strict=True
    ):
        values.setdefault(place, []).append((action, value))
    columns = (events.ts_ms, events.actions, events.indexes, events.shown)
    rows = zip(events.item_ids, *(column.tolist() for column in columns), strict=True)
    return [(*row, values.get(place, [])) for place, row in enumerate(rows)]


def stores_in(root: Path) -> Any:
    """Gives settings a folder that no other example has."""
    numbers = iter(range(10**9))
    return lambda settings: replace(settings, folder=root / str(next(numbers)))

"""The plain fold by hand, and held against the store on random logs."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.changes import SampleRef
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.decoding import ChangeDecoder
from streams.events import Action, Event, Impression, Tick, UserUpdate, encode_event
from streams.plain_fold import FoldRules, PlainUser

RULES = FoldRules(actions=("like", "dislike"), cap=100, sample_every=2, sample_exposures=5)


def shown(*items: str, ts_ms: int = 0, request_id: str | None = None, user_id: str = "ada") -> Impression:
    return Impression(event_id="e", user_id=user_id, ts_ms=ts_ms, items=list(items), request_id=request_id)


def acted(item_id: str, action: str = "like", user_id: str = "ada", **fields: Any) -> Action:
    fields = {"ts_ms": 0, **fields}
    return Action(event_id="e", user_id=user_id, item_id=item_id, action=action, **fields)


def fold(*events: Event, rules: FoldRules = RULES) -> PlainUser:
    user = PlainUser()
    for position, event in enumerate(events):
        user.apply(event, position, rules)
    return user


def rows(user: PlainUser) -> list[tuple[str, int, int, int]]:
    """(item, actions, group, index) of the sequence."""
    return [(event.item_id, event.actions, event.group, event.index) for event in user.sequence()]


def test_an_impression_is_an_event_for_each_item() -> None:
    """A slate of ten would count as one exposure."""
    assert rows(fold(shown("a", "b"), shown("a"))) == [("a", 0, 0, 0), ("b", 0, 0, 1), ("a", 0, 1, 0)]


def test_an_action_folds_onto_the_newest_exposure_of_its_item() -> None:
    """An action would label what was shown weeks ago."""
    user = fold(shown("a"), shown("a"), shown("b"), acted("a"))
    assert rows(user) == [("a", 0, 0, 0), ("a", 1, 1, 0), ("b", 0, 2, 0)]


def test_newest_means_by_the_log_and_not_by_event_time() -> None:
    """A late record would take the actions of what came after it, or not, by its clock."""
    user = fold(shown("a", ts_ms=9), shown("a", ts_ms=1), acted("a", ts_ms=20))
    assert rows(user) == [("a", 1, 1, 0), ("a", 0, 0, 0)]


def test_of_one_impression_the_last_place_takes_the_action() -> None:
    """An item that is shown twice in a slate must not be labelled by chance."""
    assert rows(fold(shown("a", "b", "a"), acted("a"))) == [("a", 0, 0, 0), ("b", 0, 0, 1), ("a", 1, 0, 2)]


def test_a_request_id_chooses_the_exposure() -> None:
    """The action belongs to the list in which the user saw the item."""
    user = fold(shown("a", request_id="r1"), shown("a", request_id="r2"), acted("a", request_id="r1"))
    assert rows(user) == [("a", 1, 0, 0), ("a", 0, 1, 0)]


def test_a_request_id_that_is_not_there_chooses_as_none_does() -> None:
    """An impression that was lost would turn its actions organic."""
    user = fold(shown("a"), shown("a", request_id="r2"), acted("a", request_id="r9"))
    assert rows(user) == [("a", 0, 0, 0), ("a", 1, 1, 0)]


def test_an_action_without_exposure_is_an_event_onto_which_nothing_folds() -> None:
    """Two searches for one item would become one event."""
    user = fold(acted("a", ts_ms=3), acted("a", "dislike", ts_ms=4), shown("b", ts_ms=5), acted("b"))
    assert rows(user) == [("a", 1, 0, 0), ("a", 2, 1, 0), ("b", 1, 2, 0)]
    assert [event.ts_ms for event in user.sequence()] == [3, 4, 5]


def test_the_newest_value_wins_and_none_leaves_it() -> None:
    """A like without stars would erase the stars."""
    user = fold(shown("a"), acted("a", value=2.0), acted("a", "dislike", value=4.5), acted("a"))
    assert [(event.actions, event.value) for event in user.events] == [(3, 4.5)]


def test_the_sequence_stands_by_time_then_by_the_log() -> None:
    """Ties in another order would be other sequences."""
    user = fold(shown("c", ts_ms=5), shown("b", "a", ts_ms=5), shown("z", ts_ms=1))
    assert [event.item_id for event in user.sequence()] == ["z", "c", "b", "a"]


def test_beyond_the_cap_the_oldest_by_time_leaves() -> None:
    """The cap by order of arrival would keep late records and drop new ones."""
    rules = FoldRules(actions=("like",), cap=2, sample_every=99, sample_exposures=99)
    user = fold(shown("a", ts_ms=5), shown("b", ts_ms=1), shown("c", ts_ms=3), rules=rules)
    assert [event.item_id for event in user.sequence()] == ["c", "a"]
    user.apply(shown("d", ts_ms=0), 3, rules)
    assert [event.item_id for event in user.sequence()] == ["c", "a"]


def test_what_left_takes_no_more_actions() -> None:
    """An action would vanish onto an event that nobody reads."""
    rules = FoldRules(actions=("like",), cap=2, sample_every=99, sample_exposures=99)
    events = (shown("a"), shown("b"), shown("c"), acted("a", ts_ms=9))
    assert rows(fold(*events, rules=rules)) == [("c", 0, 2, 0), ("a", 1, 3, 0)]


def test_every_second_action_makes_a_sample_due() -> None:
    """Samples would come too early, too late or never."""
    user = fold(shown("a"), acted("a"), shown("b"))
    assert (user.due_position, user.due_records, user.pending_records) == (-1, 0, 3)
    user.apply(acted("b"), 3, RULES)
    assert (user.due_position, user.due_records, user.pending_records) == (3, 4, 0)
    user.apply(acted("b"), 4, RULES)
    assert (user.due_position, user.due_records, user.pending_records) == (3, 4, 1)


def test_many_exposures_make_a_sample_due_without_any_action() -> None:
    """A user who never acts would never be learned from, and the cap would eat the exposures."""
    user = fold(shown("a", "b", "c"), acted("a"), shown("d", "e", "f"))
    assert (user.due_position, user.due_records) == (2, 7)
    assert (user.pending_actions, user.pending_exposures, user.pending_records) == (0, 0, 0)


def test_updates_and_ticks_change_nothing() -> None:
    """They are no part of a sequence, and no record of a sample."""
    user = fold(UserUpdate(event_id="e", ts_ms=1, user_id="ada", features={"age": 3}), Tick(event_id="t", ts_ms=2))
    assert user == PlainUser()


ITEMS = st.sampled_from(["a", "b", "c"])
TIMES = st.integers(0, 6)
REQUESTS = st.sampled_from([None, "r1", "r2"])
USERS = st.sampled_from(["ada", "bob"])
IMPRESSIONS = st.builds(
    Impression,
    event_id=st.just("e"),
    user_id=USERS,
    ts_ms=TIMES,
    # Now and then a slate so long that a few of them reach the cap.
    items=st.lists(ITEMS, min_size=1, max_size=3)
    | st.integers(300, 900).map(lambda size: ["a", "b", "d"] * (size // 3)),
    request_id=REQUESTS,
)
ACTIONS = st.builds(
    Action,
    event_id=st.just("e"),
    user_id=USERS,
    item_id=ITEMS,
    ts_ms=TIMES,
    action=st.sampled_from(RULES.actions),
    value=st.sampled_from([None, 1.0, -2.5]),
    request_id=REQUESTS,
)
OTHERS = st.builds(UserUpdate, event_id=st.just("e"), user_id=USERS, ts_ms=TIMES, features=st.just({"x": 1}))
LOGS = st.lists(IMPRESSIONS | ACTIONS | ACTIONS | OTHERS, max_size=40)


class LogRecord:
    """A record of `events`."""

    def __init__(self, offset: int, event: Event) -> None:
        assert not isinstance(event, Tick)
        self.offset = offset
        self.key = event.user_id.encode()
        self.value = encode_event(event)
        self.timestamp = 1_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("stores")
    return (root / str(number) for number in count())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(events=LOGS, cuts=st.lists(st.integers(0, 39), max_size=3), every=st.integers(1, 3), exposures=st.integers(1, 7))
def test_the_plain_fold_and_the_store_agree(
    folders: Any, events: list[Event], cuts: list[int], every: int, exposures: int
) -> None:
    """`verify` would report faults that are none, or, where both are wrong alike, none at all."""
    chosen = StoreSettings(
        folder=next(folders),
        actions=RULES.actions,
        cap=exposures + 1_000 + every,
        sample_every=every,
        sample_exposures=exposures,
    )
    rules = FoldRules(actions=chosen.actions, cap=chosen.cap, sample_every=every, sample_exposures=exposures)
    users: dict[str, PlainUser] = {}
    due: list[tuple[int, str, int]] = []
    for offset, event in enumerate(events):
        assert not isinstance(event, Tick)
        user = users.setdefault(event.user_id, PlainUser())
        records_before = user.due_records
        user.apply(event, offset, rules)
        if user.due_position == offset:
            due.append((offset, event.user_id, user.due_records - records_before))
    store = stored(chosen, events, cuts)
    try:
        assert due_samples(store) == due
        for user_id, user in users.items():
            found = [
                (event.item_id, event.ts_ms, event.actions, event.value, event.group, event.index)
                for event in store.read(user_id)
            ]
            assert found == [
                (event.item_id, event.ts_ms, event.actions, event.value, event.group, event.index)
                for event in user.sequence()
            ]
    finally:
        store.close()


def stored(chosen: StoreSettings, events: list[Event], cuts: list[int]) -> SequenceStore:
    """A store that has applied the log in chunks that end at the cuts."""
    store = SequenceStore.open(chosen, topic="events", partition=0, num_partitions=1, topic_id="t1")
    decoder = ChangeDecoder(chosen.actions)
    start = 0
    for end in sorted({*(cut for cut in cuts if cut < len(events)), len(events)}):
        if end > start:
            records = [LogRecord(offset, events[offset]) for offset in range(start, end)]
            store.apply(start, end - 1, decoder.decode(records))
            start = end
    return store


def due_samples(store: SequenceStore) -> list[tuple[int, str, int]]:
    """(position, user, records) of the outbox; the ranges of a user must join."""
    ends: dict[str, int] = {}
    found = []
    for key, item in store.outbox(1_000):
        assert isinstance(item, SampleRef)
        assert item.since == ends.get(item.user_id, -1)
        ends[item.user_id] = key.position
        found.append((key.position, item.user_id, item.num_records))
    return found


def test_the_logs_of_the_property_reach_the_cap(tmp_path: Path) -> None:
    """A property that never caps says nothing of the cap."""
    chosen = StoreSettings(folder=tmp_path, actions=RULES.actions, cap=1_002, sample_every=1, sample_exposures=1)
    slates = [shown(*["a", "b", "d"] * 250, ts_ms=ts_ms) for ts_ms in (3, 1)]
    store = stored(chosen, [*slates, acted("a", ts_ms=2)], [1])
    try:
        assert len(store.read("ada")) == 1_002
    finally:
        store.close()

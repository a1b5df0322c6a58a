import random

import pytest

from storage.changes import Change, SampleRef
from storage.errors import StateError
from storage.fragments import Block, Fragments
from storage.keys import OutboxKey
from storage.sample_body import body_of, decode_body
from storage.sequence_store import SequenceStore
from tests.storage.plain import StoreFactory, make_changes, summaries
from tests.storage.records import acted, exposed

NUM = 300


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks of a few rows, not one of hundreds."""
    monkeypatch.setattr("storage.fragments.MAX_FRAGMENTS", 3)
    monkeypatch.setattr("storage.fragments.BLOCK_ROWS", 5)


def apply_singly(store: SequenceStore, changes: list[Change]) -> None:
    for change in changes:
        store.apply(store.applied + 1, change.offset, [change])


def taken_blocks(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """The blocks that reads take from now on."""
    taken: list[Block] = []
    blocks = Fragments.blocks

    def counting(self: Fragments, *args: object) -> object:
        for block in blocks(self, *args):  # type: ignore[arg-type]  # passed on as they came
            taken.append(block)
            yield block

    monkeypatch.setattr(Fragments, "blocks", counting)
    return taken


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_a_partial_read_is_the_whole_read_cut(store_factory: StoreFactory, seed: int, rate: float) -> None:
    """A read that stops too early shows clicks as organic, or lacks them."""
    rng = random.Random(seed)
    window = rng.choice([0.005, 0.02, 1.0])
    store = store_factory(cap=1_000, attribution_seconds=window, exposure_rate=rate, sample_every=3)
    changes = make_changes(NUM, seed=seed, users=1, items=rng.choice([3, 40]), shown=7)
    for start in range(0, NUM, 3):
        store.apply(start, start + 2, [change for change in changes if start <= change.offset < start + 3])
    for until in (None, NUM - 20, 150, 40, 0):
        whole = store.read("user0", until=until)
        events = summaries(whole)
        for last in (0, 1, 2, 5, 40, 10_000):
            start = max(0, len(events) - last)
            found = store.read("user0", until=until, last=last)
            assert summaries(found) == events[start:]
            assert found.shown.tolist() == whole.shown.tolist()[start:]
            for since in (-1, 20, 140, 290, NUM):
                found = store.read("user0", until=until, last=last, since=since)
                new = [place for place, event in enumerate(events) if event[6] > since]
                assert summaries(found) == events[min([start, *new]) :]
                expected = store.read("user0", until=until, since=since)
                assert found.new_kafka_ms.tolist() == expected.new_kafka_ms.tolist()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cap", [12, 1_000])
def test_samples_that_are_read_together_are_those_read_one_by_one(
    store_factory: StoreFactory, seed: int, cap: int
) -> None:
    """What one read took is at hand for the next: rows too many or too few would be learned."""
    rng = random.Random(seed)
    window = rng.choice([0.005, 0.05, 1.0])
    store = store_factory(cap=cap, attribution_seconds=window, sample_every=2, session_gap_seconds=0.01)
    apply_singly(store, make_changes(NUM, seed=seed, users=1, items=rng.choice([3, 40])))
    due = [(key.position, item.since) for key, item in store.outbox(NUM) if isinstance(item, SampleRef)]
    assert len(due) > 50
    due = rng.sample(due, 15)
    for last in (0, 5):
        singly = {each: store.read("user0", until=each[0], since=each[1], last=last) for each in due}
        for chosen in (due, sorted(due), sorted(due, reverse=True), []):
            together = store.read_bodies("user0", chosen, last=last)
            assert [decode_body(body) for body in together] == [body_of(singly[each], each[1]) for each in chosen]


def test_an_action_whose_exposure_is_far_back_is_no_event_of_its_own(
    store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest events must not hold a click that belongs to an impression of an hour ago."""
    store = store_factory(attribution_seconds=1.0)
    fillers: list[Change] = [exposed(offset, f"i{offset}") for offset in range(1, 200)]
    apply_singly(store, [exposed(0, "far"), *fillers, acted(200, "far")])
    taken = taken_blocks(monkeypatch)
    assert store.read("ada", last=2).item_ids == ["i198", "i199"]
    assert store.read("ada", last=1, since=199).item_ids == ["far", *(f"i{offset}" for offset in range(1, 200))]
    assert taken[-1].first == 0


def test_an_action_that_names_a_far_request_belongs_there_and_not_to_a_nearer_exposure(
    store_factory: StoreFactory,
) -> None:
    """The nearest exposure of the item is at hand, the named one hundreds of rows back."""
    store = store_factory(attribution_seconds=1.0)
    fillers: list[Change] = [exposed(offset, f"i{offset}") for offset in range(1, 200)]
    near, click = exposed(200, "x", request_id="s"), acted(201, "x", request_id="r")
    apply_singly(store, [exposed(0, "x", request_id="r"), *fillers, near, click])
    found = store.read("ada", last=1)
    assert (found.item_ids, found.actions.tolist(), found.groups.tolist()) == (["x"], [0], [200])
    assert store.read("ada").actions.tolist()[0] == 2


def test_an_exposure_of_later_time_that_arrived_first_takes_a_named_action_across_blocks(
    store_factory: StoreFactory,
) -> None:
    """An exposure further on in time may lie further back in the log."""
    store = store_factory(attribution_seconds=0.05)
    fillers: list[Change] = [exposed(offset, f"i{offset}", ts_ms=500 + offset) for offset in range(1, 100)]
    ahead, click = exposed(0, "x", ts_ms=640, request_id="r"), acted(100, "x", ts_ms=600, request_id="r")
    apply_singly(store, [ahead, *fillers, click])
    found = store.read("ada", last=3)
    assert (found.item_ids, found.actions.tolist()) == (["i98", "i99", "x"], [0, 0, 2])


def test_a_read_of_the_newest_events_takes_few_blocks(
    store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample of a user with a long history would cost the whole history."""
    store = store_factory(attribution_seconds=0.01)
    apply_singly(store, [exposed(offset, f"i{offset % 7}") for offset in range(NUM)])
    apply_singly(store, [acted(NUM, f"i{(NUM - 1) % 7}")])
    taken = taken_blocks(monkeypatch)
    assert len(store.read("ada", last=5, since=NUM - 1)) == 5
    assert 0 < len(taken) < 10
    taken.clear()
    assert len(store.read("ada")) == NUM
    assert len(taken) > 40


def test_a_pending_sample_reads_what_was_before_a_trim_and_no_longer_once_it_is_sent(
    store_factory: StoreFactory,
) -> None:
    """The body of a sample is built when it is sent, whatever was forgotten meanwhile."""
    store = store_factory(cap=10, sample_every=1, sample_exposures=9)
    apply_singly(store, [acted(offset, f"i{offset}") for offset in range(15)])
    asked = [(until, summaries(store.read("ada", until=until))) for until in (0, 7, 14)]
    assert store.apply(15, 30, [acted(offset, f"i{offset}") for offset in range(15, 31)]).trimmed == 20
    store.close()
    store = store_factory(cap=10, sample_every=1, sample_exposures=9)
    for until, events in asked:
        assert summaries(store.read("ada", until=until)) == events
        assert summaries(store.read("ada", until=until, last=2)) == events[-2:]
    assert store.read("ada").item_ids == [f"i{offset}" for offset in range(20, 31)]
    store.acknowledge([OutboxKey(offset, 0) for offset in range(31)])
    store.apply(31, 31, [acted(31)])
    with pytest.raises(StateError, match="as of position 14 is no longer kept: read it as of 29"):
        store.read("ada", until=14)
    assert len(store.read("ada", until=29)) == 10
    assert {int.from_bytes(key[-16:-8], "big") for key, _ in store._db.scan(b"b", b"c")} == {29}


def test_several_trims_with_a_sample_pending_keep_all_that_it_needs(store_factory: StoreFactory) -> None:
    """One slow receiver must not spoil what is still to be sent."""
    store = store_factory(cap=6, sample_every=2, sample_exposures=3)
    expected: dict[int, object] = {}
    for offset in range(80):
        store.apply(offset, offset, [acted(offset, f"i{offset}")])
        if store.outbox_size > len(expected):
            expected[offset] = summaries(store.read("ada"))
    assert len(expected) == 40
    for key, item in store.outbox(100):
        assert isinstance(item, SampleRef)
        assert summaries(store.read("ada", until=key.position)) == expected[key.position]


def test_blocks_of_former_trims_go_once_nothing_is_pending(store_factory: StoreFactory) -> None:
    """A user who is always active would otherwise keep everything for ever."""
    store = store_factory(cap=6, sample_every=2, sample_exposures=3)
    most = 0
    for offset in range(600):
        store.apply(offset, offset, [acted(offset, f"i{offset}")])
        if offset % 7 == 0:
            store.acknowledge(key for key, _ in store.outbox(100))
        most = max(most, len(list(store._db.scan(b"b", b"c"))) + len(list(store._db.scan(b"f", b"g"))))
    assert most < 20


def test_a_negative_number_of_events_is_refused(store_factory: StoreFactory) -> None:
    """It would cut from the wrong end."""
    with pytest.raises(ValueError, match="last must be >= 0, got -1"):
        store_factory().read("ada", last=-1)

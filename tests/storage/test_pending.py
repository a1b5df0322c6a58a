import pytest

from storage.changes import Change, SampleRef, Ticked
from storage.pending import DueSample
from tests.storage.plain import StoreFactory
from tests.storage.records import acted, exposed


@pytest.mark.parametrize(
    ("delay", "gap", "due"),
    [(0.0, 0.0, None), (0.05, 0.0, 150), (0.0, 0.01, 210), (0.05, 0.01, 150), (0.2, 0.01, 210)],
)
def test_a_timer_is_due_at_the_delay_of_the_first_or_the_gap_after_the_last(
    store_factory: StoreFactory, delay: float, gap: float, due: int | None
) -> None:
    """A sample that waits for the later of both waits for ever while the user goes on."""
    store = store_factory(sample_every=9, label_delay_seconds=delay, session_gap_seconds=gap)
    store.apply(0, 1, [acted(0, ts_ms=100), acted(1, ts_ms=200)])
    if due is None:
        assert store.num_timers == 0
        return
    store.apply(2, 2, [Ticked(2, max(200, due - 1))])
    assert store.outbox_size == (due <= 200)
    store.apply(3, 3, [Ticked(3, max(200, due))])
    assert store.outbox_size == 1


def test_a_sequence_may_grow_to_twice_what_the_last_trim_left(store_factory: StoreFactory) -> None:
    """Rows of few events with many actions would otherwise be trimmed with every record."""
    store = store_factory(cap=8, attribution_seconds=1_000.0)
    changes: list[Change] = [exposed(each, f"i{each}", ts_ms=each) for each in range(5)]
    changes += [acted(5 + each, f"i{each % 5}", ts_ms=5 + each, action=each // 5) for each in range(15)]
    trimmed = [store.apply(change.offset, change.offset, [change]).trimmed for change in changes]
    assert [each for each, num in enumerate(trimmed) if num or each == 15] == [15]


def test_a_sample_is_due_by_actions_or_by_exposures_and_counts_all_rows(store_factory: StoreFactory) -> None:
    """Every row is learned once: what is pending begins anew with each sample."""
    store = store_factory(sample_every=2, sample_exposures=4, session_gap_seconds=0.0)
    shown, more = exposed(0, "a", "b"), exposed(3, "a", "b", "c")
    store.apply(0, 6, [shown, acted(1), acted(2), more, acted(4), exposed(5, "d", "e", "f"), acted(6)])
    assert [item for _, item in store.outbox(10)] == [
        SampleRef(user_id="ada", since=-1, num_records=4),
        SampleRef(user_id="ada", since=2, num_records=7),
    ]
    assert [key.position for key, _ in store.outbox(10)] == [2, 5]
    assert store.num_timers == 0
    store.apply(7, 7, [acted(7)])
    assert store.outbox(10)[-1][1] == SampleRef(user_id="ada", since=5, num_records=2)


def test_a_timer_is_set_once_and_not_moved_by_what_follows(store_factory: StoreFactory) -> None:
    """Moving a timer with every record would cost two writes a record."""
    store = store_factory(session_gap_seconds=0.1)
    store.apply(0, 2, [exposed(0, ts_ms=100), exposed(1, "y", ts_ms=160), exposed(2, "z", ts_ms=120)])
    assert (store.num_timers, store.watermark_ms) == (1, 160)
    store.apply(3, 3, [Ticked(3, 259)])
    assert (store.num_timers, store.outbox_size) == (1, 0)
    store.apply(4, 4, [Ticked(4, 260)])
    assert (store.num_timers, store.outbox_size) == (0, 1)


def test_samples_of_one_record_stand_by_reason_time_and_user() -> None:
    """The rank is part of a sample's id."""
    ranked = sorted(
        [
            DueSample(3, 9, SampleRef(user_id="b", since=-1, num_records=1), b""),
            DueSample(3, 9, SampleRef(user_id="a", since=-1, num_records=1), b""),
            DueSample(3, 8, SampleRef(user_id="é", since=-1, num_records=1), b""),
            DueSample(3, 0, SampleRef(user_id="z", since=-1, num_records=1), b""),
            DueSample(2, 99, SampleRef(user_id="y", since=-1, num_records=1), b""),
        ],
        key=lambda sample: sample.rank,
    )
    assert "".join(sample.ref.user_id for sample in ranked) == "yzéab"

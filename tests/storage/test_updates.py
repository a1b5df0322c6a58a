import pytest

from storage.changes import Change, Updated
from storage.folded import Update
from storage.updates import MAX_UPDATES, segment_starts
from tests.storage.plain import StoreFactory


def told(*values: str | int | float | bool) -> list[Update]:
    return [Update(place, place, "plan", value) for place, value in enumerate(values)]


def test_a_features_value_is_that_of_the_newest_time_and_not_of_the_last_to_arrive(store_factory: StoreFactory) -> None:
    """A profile that arrives late must not undo what was changed since."""
    store = store_factory()
    changes: list[Change] = [
        Updated(0, "ada", 50, {"plan": "free", "age": 40}),
        Updated(1, "bob", 55, {"plan": "team"}),
        Updated(2, "ada", 70, {"plan": "paid"}),
        Updated(3, "ada", 60, {"plan": "trial", "new": True}),
    ]
    assert store.apply(0, 1, changes[:2]).updated == 2
    assert store.apply(2, 3, changes[2:]).updated == 2
    assert store.updates("ada") == [
        Update(0, 50, "age", 40),
        Update(0, 50, "plan", "free"),
        Update(3, 60, "new", True),
        Update(3, 60, "plan", "trial"),
        Update(2, 70, "plan", "paid"),
    ]
    assert store.features("ada") == {"age": 40, "plan": "paid", "new": True}
    assert store.features("bob") == {"plan": "team"}
    assert [update.position for update in store.updates("ada", until=2)] == [0, 0, 2]
    assert store.updates("ada", until=-1) == []


def test_of_one_time_the_later_position_wins(store_factory: StoreFactory) -> None:
    """Seconds are what many sources know of time."""
    store = store_factory()
    store.apply(0, 1, [Updated(0, "ada", 5, {"plan": "free"}), Updated(1, "ada", 5, {"plan": "paid"})])
    assert store.features("ada") == {"plan": "paid"}


def test_updates_are_no_rows_and_make_nothing_due(store_factory: StoreFactory) -> None:
    """They are read beside the sequence and move the watermark alone."""
    store = store_factory(session_gap_seconds=1.0)
    store.apply(0, 0, [Updated(0, "ada", 5_000, {"plan": "free"})])
    assert (len(store.read("ada")), store.num_users, store.num_timers, store.outbox_size) == (0, 0, 0, 0)
    assert store.watermark_ms == 5_000


def test_a_segment_begins_where_a_value_or_its_type_changes() -> None:
    """1, 1.0 and true are three things to an embedding and one to Python."""
    assert [update.ts_ms for update in segment_starts(told("a", "a", "b", "b", "a"))] == [0, 2, 4]
    assert [update.ts_ms for update in segment_starts(told(1, True, 1.0, 1))] == [0, 1, 2, 3]
    other = Update(9, 1, "age", 1)
    assert segment_starts([*told("a"), other, *told("a")]) == [*told("a"), other]
    assert segment_starts([]) == []


@pytest.mark.parametrize("chunk", [1, 100, 5_000])
def test_a_series_that_is_too_long_loses_what_changed_nothing_then_the_oldest_changes(
    store_factory: StoreFactory, chunk: int
) -> None:
    """A client that tells the profile with every page would grow one value without end."""
    store = store_factory()
    changes = [Updated(0, "ada", 0, {"country": "is"})]
    changes += [Updated(offset, "ada", offset, {"plan": offset // 2, "os": "x"}) for offset in range(1, 2_000)]
    for start in range(0, 2_000, chunk):
        end = min(2_000, start + chunk)
        store.apply(start, end - 1, [*changes[start:end]])
    series = store.updates("ada")
    assert len(series) < MAX_UPDATES
    assert store.features("ada") == {"country": "is", "plan": 999, "os": "x"}
    plans = [update.value for update in segment_starts(series) if update.name == "plan"]
    assert plans == list(range(1_000 - len(plans), 1_000))
    assert len(plans) > 250
    assert [update.ts_ms for update in series] == sorted(update.ts_ms for update in series)

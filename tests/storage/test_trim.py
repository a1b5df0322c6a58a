import pytest

from storage.changes import Acted, Exposed
from storage.entries import Columns
from storage.fold import Fold, fold_entries
from storage.trim import Trimmed, trim_entries
from tests.storage.plain import make_changes, summaries
from tests.storage.records import acted, exposed, rows_of


def fold(*changes: Exposed | Acted, rate: float = 1.0) -> Fold:
    return fold_entries(rows_of(*changes), window_ms=100, exposure_rate=rate)


def places(trimmed: Trimmed) -> list[tuple[int, int]]:
    """(position, index) of the rows that stay."""
    rows: Columns = trimmed.entries.rows
    return list(zip(rows["position"].tolist(), rows["index"].tolist(), strict=True))


def test_bare_exposures_go_before_events_with_actions_and_of_both_the_oldest() -> None:
    """What was acted on is what is learned from."""
    changes: list[Exposed | Acted] = [
        acted(0, "a"),
        exposed(1, "b", "c"),
        acted(2, "d"),
        exposed(3, "e"),
        acted(4, "f"),
    ]
    assert places(trim_entries(fold(*changes), 4)) == [(0, 0), (2, 0), (3, 0), (4, 0)]
    assert places(trim_entries(fold(*changes), 3)) == [(0, 0), (2, 0), (4, 0)]
    assert places(trim_entries(fold(*changes), 2)) == [(2, 0), (4, 0)]
    assert places(trim_entries(fold(*changes), 5)) == [(0, 0), (1, 1), (2, 0), (3, 0), (4, 0)]


def test_the_floor_is_the_oldest_kept_event_and_is_set_only_where_the_sequence_is_full() -> None:
    """An event older than the floor could only push out itself; a sequence with room takes it."""
    changes = [acted(0, "a", ts_ms=30), acted(1, "b", ts_ms=10), acted(2, "c", ts_ms=20)]
    assert trim_entries(fold(*changes), 2).floor_ts == 20
    assert trim_entries(fold(*changes), 3).floor_ts == 10
    assert trim_entries(fold(*changes), 4).floor_ts is None


def test_of_an_events_actions_the_telling_ones_stay() -> None:
    """First, newest and newest with a value: what a read tells of an event must survive."""
    clicks = [acted(offset, ts_ms=offset, action=0) for offset in (1, 2, 3)]
    stars = [(4, 40, 1.0), (5, 60, 2.0), (6, 50, 3.0), (7, 45, None)]
    ratings = [acted(offset, ts_ms=ts_ms, action=3, value=value) for offset, ts_ms, value in stars]
    before = fold(exposed(0), *clicks, *ratings)
    trimmed = trim_entries(before, 9)
    assert [position for position, _ in places(trimmed)] == [0, 1, 3, 4, 5, 7]
    after = fold_entries(trimmed.entries, window_ms=100, exposure_rate=1.0)
    assert summaries(after.columns(after.heads, None)) == summaries(before.columns(before.heads, None))


def test_duplicates_and_exposures_left_out_by_their_share_go() -> None:
    """Rows that no read can tell from absent ones are only weight."""
    changes = [exposed(offset, f"item{offset}", event_id=f"e{offset}") for offset in range(100)]
    sampled = fold(*changes, rate=0.5)
    trimmed = trim_entries(sampled, 1_000)
    assert len(trimmed.entries) == len(sampled.heads) < 100
    assert len(trim_entries(fold(exposed(0, ts_ms=1), exposed(1, ts_ms=1)), 9).entries) == 1


def test_ids_are_dropped_of_which_no_row_is_left() -> None:
    """An id that is still kept in part must go on refusing its duplicate."""
    changes = [exposed(0, "a", "b", event_id="half"), exposed(1, "c", event_id="whole"), exposed(2, "d")]
    folded = fold(*changes, acted(3, "a", event_id="click"))
    events = folded.entries.rows["event"].tolist()
    assert trim_entries(folded, 1).dropped == {events[2]}
    assert trim_entries(folded, 9).dropped == set()


def test_all_rows_of_another_event_leave_nothing_behind() -> None:
    """A click that outlives its exposure would come back as an organic event."""
    changes: list[Exposed | Acted] = [exposed(0, "a"), acted(1, "a"), exposed(50, "b"), acted(51, "b")]
    assert places(trim_entries(fold(*changes), 1)) == [(50, 0), (51, 0)]


@pytest.mark.parametrize("seed", range(10))
def test_what_is_left_folds_to_the_same_events(seed: int) -> None:
    """A trim is a forgetting of events, never a change of one."""
    changes = [change for change in make_changes(200, seed=seed, users=1) if isinstance(change, Exposed | Acted)]
    before = fold(*changes, rate=0.5)
    trimmed = trim_entries(before, 25)
    after = fold_entries(trimmed.entries, window_ms=100, exposure_rate=0.5)
    known = summaries(before.columns(before.heads, None))
    left = summaries(after.columns(after.heads, None))
    assert len(left) == 25
    assert [event for event in known if event in left] == left
    again = trim_entries(after, 25)
    assert places(again) == places(trimmed)
    assert again.dropped == set()

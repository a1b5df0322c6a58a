import random

import numpy as np
import pytest

from storage.changes import Acted, Exposed
from storage.entries import NO_ENTRIES
from storage.fold import Fold, fold_entries
from tests.storage.plain import PlainRow, PlainRules, is_sampled, make_changes, plain_fold, summaries
from tests.storage.records import acted, exposed, rows_of

Events = list[tuple[str, int, int, int]]


def fold(*changes: Exposed | Acted, window_ms: int = 100, rate: float = 1.0) -> Fold:
    return fold_entries(rows_of(*changes), window_ms=window_ms, exposure_rate=rate)


def events_of(*changes: Exposed | Acted, window_ms: int = 100, rate: float = 1.0) -> Events:
    """(item, time, mask, position) of each event."""
    folded = fold(*changes, window_ms=window_ms, rate=rate)
    return [event[:4] for event in summaries(folded.columns(folded.heads, None))]


def test_no_rows_fold_to_no_events() -> None:
    """Every stranger's sequence is folded."""
    folded = fold_entries(NO_ENTRIES, window_ms=1, exposure_rate=0.5)
    assert len(folded.columns(folded.heads, -1)) == 0


def test_of_rows_of_equal_time_item_and_type_the_first_to_arrive_stays() -> None:
    """A producer that sends again under another id would count a click twice."""
    first, again = exposed(1, ts_ms=5, event_id="a"), exposed(2, ts_ms=5, event_id="b")
    click = [acted(offset, ts_ms=9, value=float(offset)) for offset in (3, 4)]
    folded = fold(first, again, *click)
    assert folded.target.tolist() == [0, -1, 0, -1]
    found = folded.columns(folded.heads, None)
    assert (found.groups.tolist(), found.acted.tolist(), found.last.tolist()) == ([1], [3], [3])
    assert found.values.tolist() == [3.0]


def test_rows_that_differ_in_time_item_or_type_are_no_duplicates() -> None:
    """Two items of one impression share all but the item."""
    assert len(events_of(exposed(0, "x", "y"), exposed(1, "x", ts_ms=1), acted(2, "z", ts_ms=0))) == 4
    assert events_of(exposed(0), acted(1, action=0), acted(2, ts_ms=1, action=1)) == [("x", 0, 0b11, 0)]


def test_an_item_twice_in_one_impression_is_shown_once() -> None:
    """Both rows share time, item and type: the second place says nothing that the first does not."""
    assert events_of(exposed(0, "x", "y", "x")) == [("x", 0, 0, 0), ("y", 0, 0, 0)]


def test_an_action_goes_to_the_newest_exposure_of_its_item_before_it() -> None:
    """The click on the second impression is no click on the first."""
    rows: list[Exposed | Acted] = [exposed(0, ts_ms=10), exposed(1, ts_ms=20), exposed(2, ts_ms=40), acted(3, ts_ms=30)]
    assert [event[2] for event in events_of(*rows)] == [0, 2, 0]
    assert [event[2] for event in events_of(exposed(0, ts_ms=10), acted(1, ts_ms=10))] == [2]


@pytest.mark.parametrize(("ts_ms", "num_events"), [(110, 1), (111, 2), (10, 1), (9, 2)])
def test_without_a_request_the_window_reaches_back_and_its_ends_belong_to_it(ts_ms: int, num_events: int) -> None:
    """One millisecond too far makes an organic event of a click, on one machine and not on another."""
    assert len(events_of(exposed(0, ts_ms=10), acted(1, ts_ms=ts_ms), window_ms=100)) == num_events


@pytest.mark.parametrize(("ts_ms", "num_events"), [(1_100, 1), (1_101, 2), (900, 1), (899, 2)])
def test_with_a_request_the_window_reaches_both_ways(ts_ms: int, num_events: int) -> None:
    """Clocks of clients differ: a click may seem to come before its impression."""
    shown = exposed(0, ts_ms=1_000, request_id="r")
    assert len(events_of(shown, acted(1, ts_ms=ts_ms, request_id="r"), window_ms=100)) == num_events


def test_a_named_request_wins_over_a_newer_exposure() -> None:
    """Of two lists on one screen the click belongs to the one it came from."""
    rows = [exposed(0, ts_ms=0, request_id="r"), exposed(1, ts_ms=5), exposed(2, ts_ms=6, request_id="s")]
    assert [event[2] for event in events_of(*rows, acted(3, ts_ms=9, request_id="r"))] == [2, 0, 0]
    assert [event[2] for event in events_of(*rows, acted(3, ts_ms=9, request_id="s"))] == [0, 0, 2]
    assert [event[2] for event in events_of(*rows, acted(3, ts_ms=9, request_id="other"))] == [0, 0, 2]
    assert [event[2] for event in events_of(*rows, acted(3, "y", ts_ms=9, request_id="r"))] == [0, 0, 0, 2]


def test_of_a_named_request_that_showed_an_item_twice_the_newest_exposure_is_taken() -> None:
    """Endless lists show an item again under the same request."""
    rows = [exposed(0, ts_ms=0, request_id="r"), exposed(1, ts_ms=50, request_id="r")]
    assert [event[2] for event in events_of(*rows, acted(2, ts_ms=40, request_id="r"))] == [0, 2]


def test_nothing_folds_onto_an_organic_action() -> None:
    """Two searches that led to the same item are two events."""
    assert events_of(acted(0), acted(1), acted(2, action=3)) == [("x", 0, 2, 0), ("x", 1, 2, 1), ("x", 2, 8, 2)]


def test_an_exposure_that_arrives_late_takes_the_actions_that_came_first() -> None:
    """Clicks and impressions come over different ways."""
    late = events_of(acted(0, ts_ms=9), exposed(1, ts_ms=5))
    early = events_of(exposed(0, ts_ms=5), acted(1, ts_ms=9))
    assert [event[:3] for event in late] == [event[:3] for event in early] == [("x", 5, 2)]


def test_the_value_of_each_type_is_that_of_the_newest_action_that_has_one() -> None:
    """A rating that is corrected counts as corrected; one without stars takes none away."""
    folded = fold(
        exposed(0, ts_ms=0),
        acted(1, ts_ms=8, action=3, value=5.0),
        acted(2, ts_ms=7, action=3, value=1.0),
        acted(3, ts_ms=9, action=3),
        acted(4, ts_ms=2, action=0, value=-0.5),
        acted(5, "y", ts_ms=1, value=2.0),
    )
    found = folded.columns(folded.heads, None)
    assert found.item_ids == ["x", "y"]
    assert found.value_places.tolist() == [0, 0, 1]
    assert found.value_actions.tolist() == [0, 3, 1]
    assert found.values.tolist() == [-0.5, 5.0, 2.0]
    assert (found.acted.tolist(), found.last.tolist(), found.shown.tolist()) == ([1, 5], [4, 5], [True, False])


def test_events_of_one_time_stand_by_event_id_then_place() -> None:
    """Ties that arrival breaks would make two replays differ."""
    first = [exposed(0, "a", "b", "c", ts_ms=7, event_id="e1"), exposed(1, "d", ts_ms=7, event_id="e2")]
    other = [exposed(0, "d", ts_ms=7, event_id="e2"), exposed(1, "a", "b", "c", ts_ms=7, event_id="e1")]
    found = [event[0] for event in events_of(*first)]
    assert found == [event[0] for event in events_of(*other)]
    assert "".join(found).replace("d", "") == "abc"


def test_a_share_of_the_bare_exposures_is_kept_and_every_exposure_with_an_action() -> None:
    """Leaving out what was clicked would bias the labels, not only their number."""
    shown = [exposed(offset, f"item{offset}", event_id=f"e{offset}") for offset in range(400)]
    clicks = [acted(400 + offset, f"item{offset}", event_id=f"c{offset}") for offset in range(0, 400, 4)]
    found = events_of(*shown, *clicks, window_ms=1_000, rate=0.25)
    assert sum(event[2] > 0 for event in found) == 100
    assert 40 < sum(event[2] == 0 for event in found) < 110
    alone = events_of(*shown, rate=0.25)
    assert {event for event in found if event[2] == 0} <= set(alone)
    assert len(events_of(*shown)) == 400


def test_only_the_asked_events_become_columns_with_new_kafka_times_of_all_rows() -> None:
    """A sample's body is cut from the fold, its delays are told of every new row."""
    folded = fold(exposed(0, "x"), exposed(5, "y"), acted(7, "x"), acted(9, "z"))
    found = folded.columns(folded.heads[1:], 4)
    assert (found.item_ids, found.actions.tolist()) == (["y", "z"], [0, 2])
    assert found.new_kafka_ms.tolist() == [6, 8, 10]
    assert folded.columns(folded.heads, None).new_kafka_ms.tolist() == []


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_plain_fold_of_the_rows(seed: int) -> None:
    """Sorting and searching whole columns must come to what a loop over the rows comes to."""
    rng = random.Random(seed)
    rules = PlainRules(window_ms=rng.choice([0, 3, 20, 1_000]), rate=rng.choice([1.0, 0.5]))
    changes = [
        change
        for change in make_changes(rng.choice([2, 30, 150]), seed=seed, users=1, items=rng.choice([1, 4, 30]))
        if isinstance(change, Exposed | Acted)
    ]
    rows = []
    for change in changes:
        items = change.item_ids if isinstance(change, Exposed) else [change.item_id]
        common = (change.request_id, change.event_id, change.action, change.value)
        rows += [PlainRow(change.offset, index, change.ts_ms, item, *common) for index, item in enumerate(items)]
    folded = fold(*changes, window_ms=rules.window_ms, rate=rules.rate)
    expected = plain_fold(rows, rules)
    found = folded.columns(folded.heads, None)
    assert summaries(found) == [event.summary() for event in expected]
    assert found.sampled.tolist() == [is_sampled(event.row, rules.rate) for event in expected]
    acted_heads = np.flatnonzero(folded.acted_heads()[folded.heads]).tolist()
    assert acted_heads == [place for place, event in enumerate(expected) if event.actions]

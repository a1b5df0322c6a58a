import random

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.changes import Acted, Change, Exposed
from storage.entries import Entry, Kind, SequenceEvent
from storage.sequence import fold_entries, surviving
from tests.storage.plain import make_changes, plain_fold


def exposure(position: int, item_id: str, *, index: int = 0, ts_ms: int = 0, request_id: str | None = None) -> Entry:
    return Entry(position, index, Kind.EXPOSURE, ts_ms, 0, item_id, request_id)


def action(
    position: int,
    item_id: str,
    *,
    action: int = 0,
    value: float | None = None,
    ts_ms: int = 0,
    request_id: str | None = None,
) -> Entry:
    return Entry(position, 0, Kind.ACTION, ts_ms, 0, item_id, request_id, action, value)


def entries_of(changes: list[Change], user_id: str) -> list[Entry]:
    entries: list[Entry] = []
    for change in changes:
        if isinstance(change, Exposed) and change.user_id == user_id:
            entries += [
                exposure(change.offset, item_id, index=index, ts_ms=change.ts_ms, request_id=change.request_id)
                for index, item_id in enumerate(change.item_ids)
            ]
        elif isinstance(change, Acted) and change.user_id == user_id:
            entries.append(
                action(
                    change.offset,
                    change.item_id,
                    action=change.action,
                    value=change.value,
                    ts_ms=change.ts_ms,
                    request_id=change.request_id,
                )
            )
    return entries


def test_an_action_folds_onto_the_newest_exposure_of_the_request_it_names() -> None:
    """An action credited to a later showing of the item teaches the wrong context."""
    events = fold_entries(
        [
            exposure(1, "a", ts_ms=5, request_id="r1"),
            exposure(2, "a", ts_ms=6, request_id="r2"),
            action(3, "a", action=2, value=4.0, ts_ms=9, request_id="r1"),
        ],
        cap=10,
    ).events()
    assert events == [
        SequenceEvent("a", 5, 0b100, 4.0, 1, 0, 3, 3),
        SequenceEvent("a", 6, 0, None, 2, 0, None, 2),
    ]


def test_an_action_of_an_unknown_request_or_none_folds_onto_the_newest_exposure_of_the_item() -> None:
    """A producer that names requests of its own would turn every action into an organic one."""
    for request_id in (None, "never seen"):
        events = fold_entries(
            [exposure(1, "a", request_id="r1"), exposure(2, "a"), action(3, "a", request_id=request_id)], cap=10
        ).events()
        assert [event.actions for event in events] == [0, 1]


def test_an_action_without_exposure_is_an_event_of_its_own_and_nothing_folds_onto_it() -> None:
    """Two organic actions on one item are two events; folding them would hide the second."""
    events = fold_entries([action(1, "a", ts_ms=4), action(2, "a", action=1, ts_ms=7)], cap=10).events()
    assert events == [SequenceEvent("a", 4, 1, None, 1, 0, 1, 1), SequenceEvent("a", 7, 2, None, 2, 0, 2, 2)]


def test_further_actions_add_bits_keep_the_first_position_and_the_newest_value_there_is() -> None:
    """A later action without a value must not erase a rating."""
    events = fold_entries(
        [exposure(1, "a"), action(2, "a", action=0, value=3.0), action(3, "a", action=3), action(4, "a", action=0)],
        cap=10,
    ).events()
    assert events == [SequenceEvent("a", 0, 0b1001, 3.0, 1, 0, 2, 4)]


def test_of_an_item_shown_twice_in_one_impression_the_later_place_gets_the_action() -> None:
    """Without a rule for ties, two implementations would disagree."""
    events = fold_entries([exposure(1, "a", index=0), exposure(1, "a", index=1), action(2, "a")], cap=10).events()
    assert [event.actions for event in events] == [0, 1]


def test_an_exposure_that_the_cap_dropped_gets_no_action_any_more() -> None:
    """What reads return may not depend on what happens to lie on disk."""
    events = fold_entries(
        [exposure(1, "a", ts_ms=1), exposure(2, "b", ts_ms=2), exposure(3, "c", ts_ms=3), action(4, "a", ts_ms=4)],
        cap=2,
    ).events()
    assert [(event.item_id, event.group) for event in events] == [("c", 3), ("a", 4)]


def test_a_late_event_takes_its_place_by_event_time() -> None:
    """Order of arrival is not order of events."""
    fold = fold_entries([exposure(1, "a", ts_ms=9), exposure(2, "b", ts_ms=3)], cap=10)
    assert [event.item_id for event in fold.events()] == ["b", "a"]
    assert [event.item_id for event in fold.events(last=1)] == ["a"]
    assert fold.events(last=0) == []


def test_the_fold_equals_the_rule_by_its_letter() -> None:
    """The heap and the indexes of the fold are short cuts; the rule is what counts."""
    for seed in range(40):
        changes = make_changes(150, seed=seed, users=1)
        for cap in (1, 7, 1_000):
            expected = plain_fold(changes, "user0", cap=cap)
            assert fold_entries(entries_of(changes, "user0"), cap).events() == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), cap=st.integers(1, 12), floor=st.integers(-1, 120))
def test_entries_that_do_not_survive_make_no_difference_to_later_reads(seed: int, cap: int, floor: int) -> None:
    """Pruning is garbage collection: as of the floor or later nobody may see it."""
    changes = make_changes(120, seed=seed, users=1)
    entries = entries_of(changes, "user0")
    left = surviving(entries, floor, cap)
    assert [entry for entry in left if entry.position > floor] == [e for e in entries if e.position > floor]
    for until in range(max(0, floor), 121):
        before = fold_entries([entry for entry in entries if entry.position <= until], cap).events()
        after = fold_entries([entry for entry in left if entry.position <= until], cap).events()
        assert before == after


def test_what_survives_of_one_event_is_bounded_however_often_it_was_acted_on() -> None:
    """A user who likes one film ten thousand times must not grow the state for ever."""
    rng = random.Random(1)
    entries = [exposure(0, "a")]
    entries += [action(n, "a", action=rng.randrange(4), value=rng.choice([None, 1.0])) for n in range(1, 10_000)]
    left = surviving(entries, 10_000, cap=10)
    assert len(left) <= 1 + 4 + 2
    assert fold_entries(left, 10).events() == fold_entries(entries, 10).events()

"""The plain fold by hand: what each rule says, on logs of a few records."""

from dataclasses import replace
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from storage.store_settings import StoreSettings
from streams.events import Action, Event, Impression, Tick, UserUpdate
from streams.plain_fold import FoldRules, PlainDue, PlainEvent, PlainPartition

RULES = FoldRules(
    actions=("like", "dislike"),
    cap=100,
    sample_every=99,
    sample_exposures=99,
    attribution_ms=1_000,
    label_delay_ms=0,
    session_gap_ms=0,
    exposure_rate=1.0,
)


def shown(*items: str, ts_ms: int = 0, request_id: str | None = None, **fields: Any) -> Impression:
    fields = {"event_id": f"{items}{ts_ms}{request_id}", "user_id": "ada", **fields}
    return Impression(ts_ms=ts_ms, items=list(items), request_id=request_id, **fields)


def acted(item_id: str, action: str = "like", *, ts_ms: int = 0, **fields: Any) -> Action:
    fields = {"event_id": f"{item_id}{action}{ts_ms}", "user_id": "ada", **fields}
    return Action(item_id=item_id, action=action, ts_ms=ts_ms, **fields)


def tick(ts_ms: int) -> Tick:
    return Tick(event_id=f"t{ts_ms}", ts_ms=ts_ms)


def fold(*events: Event, **changes: Any) -> PlainPartition:
    """A partition that took in these events at offsets 0, 1, ..."""
    partition = PlainPartition(replace(RULES, **changes))
    for position, event in enumerate(events):
        partition.apply(event, position, 5_000 + position)
    return partition


def due(*events: Event, **changes: Any) -> list[PlainDue]:
    """The samples that these events make due."""
    partition = PlainPartition(replace(RULES, **changes))
    return [sample for position, event in enumerate(events) for sample in partition.apply(event, position, 0)]


def events_of(partition: PlainPartition) -> list[PlainEvent]:
    return partition.users["ada"].sequence(partition.rules)[0]


def rows(partition: PlainPartition) -> list[tuple[str, int, int]]:
    """(item, actions, group) of Ada's sequence."""
    return [(event.row.item_id, event.actions, event.row.position) for event in events_of(partition)]


def test_an_impression_is_an_event_for_each_item() -> None:
    """A slate of ten would count as one exposure."""
    found = events_of(fold(shown("a", "b"), shown("a", ts_ms=1)))
    assert [(event.row.item_id, *event.place) for event in found] == [("a", 0, 0), ("b", 0, 1), ("a", 1, 0)]
    assert all(event.shown and event.actions == 0 and event.acted == -1 for event in found)


def test_an_action_goes_to_the_newest_exposure_before_it_by_event_time() -> None:
    """An action would label what was shown weeks ago, or what the user had not seen yet."""
    log = (shown("a", ts_ms=20), shown("a", ts_ms=5), shown("a", ts_ms=40), acted("a", ts_ms=30))
    assert rows(fold(*log)) == [("a", 0, 1), ("a", 1, 0), ("a", 0, 2)]


def test_an_action_may_arrive_before_its_impression() -> None:
    """Streams of clients and servers overtake each other; the label would depend on the race."""
    log = (acted("a", ts_ms=8), shown("a", ts_ms=5))
    (event,) = events_of(fold(*log))
    assert (event.shown, event.actions, event.place, event.acted, event.last) == (True, 1, (1, 0), 0, 1)


def test_a_request_chooses_the_exposure_even_a_newer_or_later_one() -> None:
    """The action belongs to the list in which the user saw the item, whatever the client's clock says."""
    log = (shown("a", ts_ms=5, request_id="r1"), shown("a", ts_ms=20, request_id="r2"), acted("a", request_id="r2"))
    assert rows(fold(*log)) == [("a", 0, 0), ("a", 1, 1)]
    older = (*log[:2], acted("a", ts_ms=30, request_id="r1"))
    assert rows(fold(*older)) == [("a", 1, 0), ("a", 0, 1)]


def test_a_request_that_shows_another_item_or_lies_outside_the_window_chooses_as_none_does() -> None:
    """An impression that was lost would turn its actions organic."""
    log = (shown("b", ts_ms=5, request_id="r1"), shown("a", ts_ms=4), acted("a", ts_ms=6, request_id="r1"))
    assert rows(fold(*log)) == [("a", 1, 1), ("b", 0, 0)]
    far = (shown("a", request_id="r1"), shown("a", ts_ms=1_500), acted("a", ts_ms=1_600, request_id="r1"))
    assert rows(fold(*far)) == [("a", 0, 0), ("a", 1, 1)]
    ahead = (shown("a", ts_ms=2_000, request_id="r1"), acted("a", ts_ms=1_000, request_id="r1"))
    assert rows(fold(*ahead)) == [("a", 1, 0)]


@pytest.mark.parametrize(("age_ms", "is_organic"), [(0, False), (1_000, False), (1_001, True), (-1, True)])
def test_the_window_reaches_from_the_action_back_to_its_edge(age_ms: int, is_organic: bool) -> None:
    """One millisecond decides between a label and an organic action; both folds must decide alike."""
    log = (shown("a", ts_ms=5_000), acted("a", ts_ms=5_000 + age_ms))
    assert len(events_of(fold(*log))) == 1 + is_organic


def test_an_action_without_exposure_is_an_event_onto_which_nothing_folds() -> None:
    """Two searches for one item would become one event."""
    partition = fold(acted("a", ts_ms=3), acted("a", "dislike", ts_ms=4), shown("b", ts_ms=5), acted("b", ts_ms=6))
    assert rows(partition) == [("a", 1, 0), ("a", 2, 1), ("b", 1, 2)]
    assert [event.shown for event in events_of(partition)] == [False, False, True]


def test_several_actions_are_a_mask_with_a_value_each() -> None:
    """A like without stars would erase the stars; stars that came late would replace newer ones."""
    log = (
        shown("a"),
        acted("a", ts_ms=9, value=4.5),
        acted("a", ts_ms=7, value=2.0),
        acted("a", "dislike", ts_ms=8, value=1.0),
        acted("a", ts_ms=10),
    )
    (event,) = events_of(fold(*log))
    assert (event.actions, event.values, event.acted, event.last) == (3, [(1, 1.0), (0, 4.5)], 1, 4)


def test_values_of_one_moment_stand_in_the_order_of_the_types() -> None:
    """Which of two actions of one click came first would be the producer's whim."""
    log = (shown("a"), acted("a", "dislike", ts_ms=5, value=1.0), acted("a", ts_ms=5, value=2.0))
    (event,) = events_of(fold(*log))
    assert event.values == [(0, 2.0), (1, 1.0)]


def test_events_stand_by_time_then_by_id_not_by_arrival() -> None:
    """Ties by arrival would make sequences of producers that race."""
    first, second = sorted(("x", "y"), key=lambda text: xxh3_64_intdigest(text.encode()))
    log = (shown("d", "c", ts_ms=5, event_id=second), shown("b", ts_ms=5, event_id=first), shown("z", ts_ms=1))
    assert [event.row.item_id for event in events_of(fold(*log))] == ["z", "b", "d", "c"]


def test_a_record_with_a_known_id_changes_nothing() -> None:
    """A producer's retry would count twice and bring the next sample forward."""
    log = (acted("a", event_id="e"), acted("b", ts_ms=7, event_id="e"), shown("c", event_id="e"))
    partition = fold(*log)
    user = partition.users["ada"]
    assert rows(partition) == [("a", 1, 0)]
    assert (user.duplicates, user.pending_records, user.last_ms, partition.watermark_ms) == (2, 1, 0, 7)


def test_without_ids_equal_time_item_and_action_are_one_event_but_two_records() -> None:
    """A replay of a log without ids would double every event."""
    log = (shown("a", "a"), shown("a"), acted("a", ts_ms=1), acted("a", ts_ms=1), acted("a", "dislike", ts_ms=1))
    partition = fold(*(type(event)(**{**as_fields(event), "event_id": None}) for event in log))
    assert [(event.place, event.actions, event.last) for event in events_of(partition)] == [((0, 0), 3, 4)]
    assert partition.users["ada"].pending_records == 6
    assert partition.users["ada"].duplicates == 0


def as_fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_at_twice_the_cap_bare_exposures_go_first_the_oldest_before_the_newer() -> None:
    """Actions are what is learned from; a scroll past a thousand items would push them out."""
    log: list[Event] = [acted("x", ts_ms=1), *(shown(f"i{place}", ts_ms=10 + place) for place in range(5))]
    assert len(events_of(fold(*log, cap=3))) == 3
    assert [event.row.item_id for event in events_of(fold(*log, cap=3))] == ["x", "i3", "i4"]
    assert len(events_of(fold(*log[:5], cap=3))) == 5


def test_of_actions_beyond_the_cap_the_oldest_go_and_with_them_all_exposures() -> None:
    """The cap would be no cap for who acts on everything."""
    log: list[Event] = [shown("s", ts_ms=50), *(acted(f"i{place}", ts_ms=10 - place) for place in range(5))]
    partition = fold(*log, cap=3)
    assert [event.row.item_id for event in events_of(partition)] == ["i2", "i1", "i0"]
    assert partition.users["ada"].capped_out == 3


def test_what_is_older_than_a_full_sequence_comes_too_late() -> None:
    """What was dropped would come back in pieces, and as something else."""
    log: list[Event] = [shown(f"i{place}", ts_ms=10 + place) for place in range(6)]
    partition = fold(*log, shown("old", ts_ms=12), shown("edge", ts_ms=13), cap=3)
    user = partition.users["ada"]
    assert (user.floor_ms, user.too_late, user.pending_records) == (13, 1, 7)
    assert [event.row.item_id for event in events_of(partition)].count("edge") == 1


def test_a_trim_that_leaves_room_refuses_nothing() -> None:
    """Five ratings of one film are no reason to refuse last week."""
    log: list[Event] = [shown("a", ts_ms=50), *(acted("a", ts_ms=51 + place, value=float(place)) for place in range(5))]
    partition = fold(*log, shown("old"), cap=3)
    user = partition.users["ada"]
    assert user.too_late == 0
    # Of five ratings the first and the newest stay, which has the newest value, too.
    assert [row.position for row in user.rows] == [0, 1, 5, 6]
    assert events_of(partition)[1].values == [(0, 4.0)]


def test_a_trim_keeps_the_newest_value_by_time_and_the_newest_to_arrive() -> None:
    """A trim must not change what is read."""
    acts = [acted("a", ts_ms=ts_ms, value=value) for ts_ms, value in ((60, 1.0), (90, 2.0), (70, None), (65, 3.0))]
    whole = fold(shown("a", ts_ms=50), shown("b"), *acts, cap=90)
    trimmed = fold(shown("a", ts_ms=50), shown("b"), *acts, cap=3)
    assert [row.position for row in trimmed.users["ada"].rows] == [0, 1, 2, 3, 5]
    told = [[(each.actions, each.values, each.acted, each.last) for each in events_of(p)] for p in (whole, trimmed)]
    assert told[0] == told[1]


def test_rows_double_before_the_next_trim() -> None:
    """A user whose kept events have many rows would be trimmed at every record."""
    kinds = tuple(f"k{number}" for number in range(8))
    log: list[Event] = [shown("a"), *(acted("a", kind, ts_ms=1) for kind in kinds), shown("b", ts_ms=2)]
    user = fold(*log, cap=2, actions=kinds).users["ada"]
    assert (user.num_left, len(user.rows)) == (8, 10)


def test_an_id_whose_rows_were_trimmed_is_unknown_again() -> None:
    """Ids would have to be kept for ever."""
    log: list[Event] = [shown(f"i{place}", ts_ms=10, event_id=f"e{place}") for place in range(6)]
    kept = {f"e{row.item_id[1:]}" for row in fold(*log, cap=3).users["ada"].rows}
    gone = min({f"e{place}" for place in range(6)} - kept)
    partition = fold(*log, shown("again", ts_ms=20, event_id=gone), shown("no", ts_ms=20, event_id=min(kept)), cap=3)
    found = [event.row.item_id for event in events_of(partition)]
    assert ("again" in found, "no" in found) == (True, False)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
def test_a_share_of_the_bare_exposures_is_left_out_and_none_that_was_acted_on(rate: float) -> None:
    """Negatives are plenty, labels are not; the share has to be what the learner corrects for."""
    log: list[Event] = [shown(f"i{place}", ts_ms=place) for place in range(400)]
    acts = [acted(f"i{place}", ts_ms=place) for place in range(0, 400, 4)]
    partition = fold(*log, *acts, exposure_rate=rate, cap=10_000)
    found = events_of(partition)
    num_bare = sum(event.actions == 0 for event in found)
    assert len(found) - num_bare == 100
    assert abs(num_bare - 300 * rate) < 4 * (300 * rate * (1 - rate)) ** 0.5
    assert partition.users["ada"].sequence(partition.rules)[1] == 300 - num_bare
    alone = fold(*log, exposure_rate=rate, cap=10_000)
    assert {event.row.item_id for event in found if not event.actions} <= {e.row.item_id for e in events_of(alone)}


def test_every_so_many_actions_make_a_sample_due() -> None:
    """Samples would come too early, too late or never."""
    log = (shown("a", "b"), acted("a"), acted("b"), shown("c", ts_ms=1), acted("c", ts_ms=2), acted("c", ts_ms=3))
    assert due(*log, sample_every=2) == [(2, 0, "ada", -1, 4), (5, 0, "ada", 2, 3)]
    assert fold(*log[:-1], sample_every=2).users["ada"].pending_records == 2


def test_many_exposures_make_a_sample_due_without_any_action() -> None:
    """A user who never acts would never be learned from, and the cap would eat the exposures."""
    log = (shown("a", "b", "c"), acted("a"), shown("d", "e", "f", ts_ms=1))
    assert due(*log, sample_exposures=5) == [(2, 0, "ada", -1, 7)]


def test_records_that_a_trim_dropped_count_in_the_sample() -> None:
    """The proof that nothing is lost adds these numbers up."""
    log: list[Event] = [shown(f"i{place}", ts_ms=place) for place in range(9)]
    assert due(*log, acted("i8", ts_ms=9), cap=3, sample_every=1) == [(9, 0, "ada", -1, 10)]


def test_the_label_delay_is_counted_from_the_first_pending_record() -> None:
    """A click may come a minute after the impression: the exposure must not be learned as bare before."""
    log = (shown("a", ts_ms=100), shown("b", ts_ms=140), tick(149), tick(150))
    assert due(*log, label_delay_ms=50) == [(3, 0, "ada", -1, 2)]


def test_the_session_gap_is_counted_from_the_newest_record_and_rearmed() -> None:
    """A user who goes on is not gone; one who is gone must be learned without a further action."""
    log = (shown("a", ts_ms=100), shown("b", ts_ms=140), tick(150), tick(189), tick(190))
    assert due(*log, session_gap_ms=50) == [(4, 0, "ada", -1, 2)]
    partition = fold(*log[:3], session_gap_ms=50)
    assert (partition.num_timers, partition.users["ada"].has_timer) == (1, True)


def test_whichever_timer_is_first_fires() -> None:
    """A user who never pauses would never be learned."""
    log: list[Event] = [shown(f"i{place}", ts_ms=30 * place) for place in range(6)]
    assert due(*log, session_gap_ms=50, label_delay_ms=100) == [(4, 0, "ada", -1, 5)]


def test_a_timer_with_nothing_pending_is_gone() -> None:
    """An empty sample would be sent, or the timer would stay for ever and keep ticks coming."""
    log = (shown("a", ts_ms=100), acted("a", ts_ms=110))
    partition = fold(*log, session_gap_ms=50, sample_every=1)
    assert partition.num_timers == 1
    assert partition.apply(tick(150), 2, 0) == []
    assert partition.num_timers == 0
    partition.apply(shown("b", ts_ms=200), 3, 0)
    assert partition.num_timers == 1


def test_without_timers_time_makes_nothing_due() -> None:
    """Both settings at 0 mean by number alone."""
    assert due(shown("a"), tick(10**12)) == []


def test_samples_of_one_record_are_ranked_a_count_first_then_by_due_time_then_by_user() -> None:
    """Ids of samples must be the same in every replay."""
    users = [shown("a", ts_ms=ts_ms, user_id=user_id) for user_id, ts_ms in (("bob", 5), ("cid", 3), ("ana", 5))]
    log: tuple[Event, ...] = (*users, acted("a", ts_ms=100, user_id="zoe"))
    found = due(*log, session_gap_ms=50, sample_every=1)
    assert [(sample.position, sample.n, sample.user_id) for sample in found] == [
        (3, 0, "zoe"),
        (3, 1, "cid"),
        (3, 2, "ana"),
        (3, 3, "bob"),
    ]


def test_a_late_record_is_due_at_once() -> None:
    """Its timer lies in the past already; it would wait for the next record of anybody."""
    log = (tick(1_000), shown("a", ts_ms=100))
    assert due(*log, session_gap_ms=50) == [(1, 0, "ada", -1, 1)]


def test_every_valid_record_moves_the_watermark_and_only_forwards() -> None:
    """Time that stands still while others act keeps samples back; time that runs back forms others."""
    update = UserUpdate(event_id="u", ts_ms=30, user_id="ada", features={"age": 3})
    partition = fold(shown("a", ts_ms=10), tick(20), update, acted("a", ts_ms=25))
    assert partition.watermark_ms == 30
    assert partition.users["ada"].pending_records == 2


def test_updates_are_a_series_of_their_own_and_never_pending() -> None:
    """They are no part of a sequence, and no record of a sample."""
    late = UserUpdate(event_id="u2", ts_ms=1, user_id="bob", features={"age": 2, "city": "Oslo"})
    partition = fold(UserUpdate(event_id="u1", ts_ms=9, user_id="bob", features={"age": 3}), late, session_gap_ms=1)
    bob = partition.users["bob"]
    assert sorted(bob.updates) == [(1, 1, "age", 2), (1, 1, "city", "Oslo"), (9, 0, "age", 3)]
    assert (bob.pending_records, bob.rows, partition.num_timers) == (0, [], 0)


def test_rules_are_those_of_the_settings() -> None:
    """Seconds taken for milliseconds would fold almost nothing."""
    settings = StoreSettings(attribution_seconds=1.5, label_delay_seconds=0.25, session_gap_seconds=0, cap=700)
    rules = FoldRules.of(settings)
    assert (rules.attribution_ms, rules.label_delay_ms, rules.session_gap_ms, rules.cap) == (1_500, 250, 0, 700)
    assert (rules.actions, rules.exposure_rate) == (settings.actions, 1.0)

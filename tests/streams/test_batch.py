"""Samples become rows for the learner's step: one a user, each new event once."""

import numpy as np

from storage.sample_body import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, NEW_LATE_ACTION
from streams.batch import MicroBatch
from streams.samples import Sample, Segment
from tests.streams.made_samples import sample_factory

SHOWN_AND_ACTED = NEW_EXPOSURE | NEW_ACTION


def second(**changes: object) -> Sample:
    """Ada's second sample: her first event is context by now."""
    fields: dict[str, object] = {
        "trigger_offset": 3,
        "since": 1,
        "item_ids": ["i1", "i2"],
        "ts_ms": [1_000, 2_000],
        "actions": [1, 2],
        "groups": [0, 2],
        "new": [0, SHOWN_AND_ACTED],
    }
    return sample_factory(**(fields | changes))


def test_a_sample_becomes_a_row_as_it_is() -> None:
    """A column that is swapped, cut or cast wrongly is learned without a word."""
    batch = MicroBatch(100)
    batch.add(second(value_places=[1, 1], value_actions=[0, 1], values=[2.0, 4.5]))
    (row,) = batch.sequences()
    assert (row.user_id, row.item_ids) == ("ada", ["i1", "i2"])
    assert row.ts_ms.tolist() == [1_000, 2_000]
    assert row.actions.tolist() == [1, 2]
    assert row.groups.tolist() == [0, 2]
    assert row.new.tolist() == [0, SHOWN_AND_ACTED]
    assert row.order.tolist() == [0, 100]
    np.testing.assert_array_equal(row.values, np.array([np.nan, 4.5], np.float32))
    assert row.exposure_rate == 1.0
    for column in (row.ts_ms, row.actions, row.groups, row.new, row.order):
        assert column.dtype == np.int64


def test_a_row_says_at_which_rate_exposures_were_left_out() -> None:
    """The learner would take the odds among few exposures for those among all."""
    batch = MicroBatch(0)
    batch.add(sample_factory(exposure_rate=0.25))
    assert batch.sequences()[0].exposure_rate == 0.25


def test_a_row_holds_what_is_known_of_the_user() -> None:
    """The model would be told of nothing but events."""
    batch = MicroBatch(0)
    batch.add(second(features=[Segment(500, 0, "age", 30), Segment(1_500, 1, "age", 31)]))
    assert batch.sequences()[0].features == [(500, 0, "age", 30), (1_500, 1, "age", 31)]


def test_samples_of_two_logs_do_not_join() -> None:
    """Events of two logs may have equal positions and items: two new ones would be learned as one."""
    batch = MicroBatch(0)
    batch.add(sample_factory())
    assert batch.fits(sample_factory(trigger_offset=3))
    assert not batch.fits(sample_factory(topic_id="log-2", trigger_offset=3))


def test_two_samples_of_a_user_are_one_row_with_the_new_events_of_both() -> None:
    """A user that comes twice is refused by the step; the first sample's event must not become context."""
    batch = MicroBatch(0)
    batch.add(sample_factory())
    assert batch.fits(second())
    batch.add(second())
    (row,) = batch.sequences()
    assert row.item_ids == ["i1", "i2"]
    assert row.new.tolist() == [SHOWN_AND_ACTED, SHOWN_AND_ACTED]
    assert row.order.tolist() == [0, 1]
    assert batch.num_events == 2
    assert len(batch.samples) == 2


def test_bits_of_one_event_from_two_samples_join_and_keep_its_first_place() -> None:
    """An event that is shown in one sample and acted on in the next would lose one of the two."""
    batch = MicroBatch(0)
    batch.add(sample_factory(new=[NEW_EXPOSURE], actions=[0]))
    batch.add(second(item_ids=["i1"], ts_ms=[1_000], actions=[1], groups=[0], new=[NEW_ACTION]))
    (row,) = batch.sequences()
    assert row.new.tolist() == [SHOWN_AND_ACTED]
    assert row.order.tolist() == [0]
    assert row.actions.tolist() == [1]


def test_an_action_is_late_only_where_its_exposure_is_not_in_the_batch() -> None:
    """A negative would be taken back that was never learned; or one that was learned before would stay."""
    late = second(item_ids=["i1"], ts_ms=[1_000], groups=[0], new=[NEW_ACTION | NEW_LATE_ACTION], actions=[1])
    further = second(item_ids=["i1"], ts_ms=[1_000], groups=[0], new=[NEW_FURTHER_ACTION], actions=[3])
    together, apart = MicroBatch(0), MicroBatch(0)
    together.add(sample_factory(new=[NEW_EXPOSURE], actions=[0]))
    for batch in (together, apart):
        batch.add(late)
        batch.add(further)
    assert together.sequences()[0].new.tolist() == [SHOWN_AND_ACTED | NEW_FURTHER_ACTION]
    assert apart.sequences()[0].new.tolist() == [NEW_ACTION | NEW_LATE_ACTION | NEW_FURTHER_ACTION]


def test_events_are_numbered_in_the_order_of_arrival_across_users() -> None:
    """The prequential figure of an event may use nothing that came after it."""
    batch = MicroBatch(7)
    batch.add(sample_factory())
    batch.add(
        sample_factory(
            user_id="bob",
            item_ids=["i8", "i9"],
            ts_ms=[1, 2],
            actions=[1, 1],
            groups=[4, 5],
            new=[NEW_FURTHER_ACTION, SHOWN_AND_ACTED],
        )
    )
    batch.add(second())
    ada, bob = batch.sequences()
    assert (ada.user_id, bob.user_id) == ("ada", "bob")
    assert ada.order.tolist() == [7, 10]
    assert bob.order.tolist() == [8, 9]
    assert batch.num_events == 4


def test_a_sample_that_dropped_a_new_event_of_the_batch_does_not_fit() -> None:
    """The cap may have pushed it out: joined, it would never be learned."""
    batch = MicroBatch(0)
    batch.add(sample_factory())
    without = second(item_ids=["i2"], ts_ms=[2_000], actions=[2], groups=[2], new=[SHOWN_AND_ACTED])
    assert not batch.fits(without)
    assert batch.fits(sample_factory(user_id="bob"))
    assert batch.fits(second())


def test_the_same_item_in_another_impression_is_another_event() -> None:
    """Matching by item alone would take a repeat for the event that was dropped."""
    batch = MicroBatch(0)
    batch.add(sample_factory())
    repeat = second(item_ids=["i1"], ts_ms=[2_000], actions=[2], groups=[2], new=[SHOWN_AND_ACTED])
    assert not batch.fits(repeat)


def test_an_empty_batch_has_no_rows() -> None:
    """A step on nothing would count as one."""
    batch = MicroBatch(0)
    assert (batch.num_events, batch.samples, batch.sequences()) == (0, [], [])

"""Learned ranges: a chain of ranges a user, and where it broke."""

import pytest

from storage.entries import pack_position
from streams.learned import LearnedRanges
from tests.streams.made_samples import LOG_ID, sample_factory


def learn(
    ranges: LearnedRanges,
    since: int,
    trigger: int,
    num_records: int = 2,
    user_id: str = "ada",
    topic_id: str = LOG_ID,
) -> None:
    ranges.add(sample_factory(since=since, user_id=user_id, num_records=num_records), trigger, topic_id)


def test_a_whole_chain_has_neither_gap_nor_overlap() -> None:
    """A proof that finds faults where there are none is ignored."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    learn(ranges, 4, 9, num_records=5)
    assert ranges.of("ada", LOG_ID) == {"position": 9, "records": 7, "gaps": 0, "overlaps": 0, "first": -1}


def test_a_lost_sample_is_a_gap() -> None:
    """A sample that never came would go unnoticed."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    learn(ranges, 9, 12)
    assert ranges.of("ada", LOG_ID) == {"position": 12, "records": 4, "gaps": 1, "overlaps": 0, "first": -1}


def test_a_lost_first_sample_is_a_gap() -> None:
    """The chain begins at the log's beginning, not at the first sample that came."""
    ranges = LearnedRanges()
    learn(ranges, 4, 9)
    assert ranges.of("ada", LOG_ID)["gaps"] == 1


def test_a_sample_learned_twice_is_an_overlap() -> None:
    """Its records would count double in every weight."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    learn(ranges, -1, 4)
    assert ranges.of("ada", LOG_ID) == {"position": 4, "records": 4, "gaps": 0, "overlaps": 1, "first": -1}


def test_a_loss_and_a_repeat_do_not_cancel_out() -> None:
    """The number of records alone would be right."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    learn(ranges, -1, 4)
    learn(ranges, 9, 12)
    found = ranges.of("ada", LOG_ID)
    assert (found["records"], found["gaps"], found["overlaps"]) == (6, 1, 1)


def test_users_have_chains_of_their_own() -> None:
    """One user's trigger would be another's gap."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    learn(ranges, -1, 6, user_id="bob")
    assert len(ranges) == 2
    assert ranges.of("bob", LOG_ID) == {"position": 6, "records": 2, "gaps": 0, "overlaps": 0, "first": -1}
    assert ranges.of("eve", LOG_ID) == {"position": -1, "records": 0, "gaps": 0, "overlaps": 0, "first": -1}


NEW = pack_position(1, 0)


def test_a_new_epoch_of_the_log_begins_a_new_part_of_the_chain() -> None:
    """What is no longer in the log can be held against nothing."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    learn(ranges, -1, 4)
    learn(ranges, 4, NEW + 3, num_records=9)
    assert ranges.of("ada", LOG_ID) == {"position": NEW + 3, "records": 0, "gaps": 0, "overlaps": 0, "first": NEW + 3}
    learn(ranges, NEW + 3, NEW + 5)
    learn(ranges, NEW + 6, NEW + 7)
    assert ranges.of("ada", LOG_ID) == {"position": NEW + 7, "records": 4, "gaps": 1, "overlaps": 0, "first": NEW + 3}


def test_the_loss_of_the_sample_that_joins_two_epochs_is_a_gap() -> None:
    """It would vanish with the former part."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    learn(ranges, NEW + 3, NEW + 5)
    assert ranges.of("ada", LOG_ID) == {"position": NEW + 5, "records": 2, "gaps": 1, "overlaps": 0, "first": NEW + 3}


def test_a_user_who_came_in_the_new_epoch_has_a_whole_chain() -> None:
    """A first sample may only be passed over where a former one was."""
    ranges = LearnedRanges()
    learn(ranges, -1, NEW + 5, num_records=6)
    assert ranges.of("ada", LOG_ID) == {"position": NEW + 5, "records": 6, "gaps": 0, "overlaps": 0, "first": -1}


@pytest.mark.parametrize("before", [0, NEW])
def test_the_log_of_a_store_made_from_nothing_begins_a_new_chain(before: int) -> None:
    """It is in epoch 0 again: all that a former log led to would count as learned of this one, and as an overlap."""
    ranges = LearnedRanges()
    learn(ranges, -1, before + 900, num_records=40)
    assert ranges.of("ada", "log-2") == {"position": -1, "records": 0, "gaps": 0, "overlaps": 0, "first": -1}
    learn(ranges, -1, 5, topic_id="log-2")
    learn(ranges, 5, 7, topic_id="log-2")
    assert ranges.of("ada", "log-2") == {"position": 7, "records": 4, "gaps": 0, "overlaps": 0, "first": -1}
    assert ranges.of("ada", LOG_ID)["records"] == 0


def test_the_loss_of_the_first_sample_of_another_log_is_a_gap() -> None:
    """Beginning the chain anew would hide it."""
    ranges = LearnedRanges()
    learn(ranges, -1, 900)
    learn(ranges, 5, 7, topic_id="log-2")
    assert ranges.of("ada", "log-2") == {"position": 7, "records": 2, "gaps": 1, "overlaps": 0, "first": 5}


def test_ranges_without_a_log_go_on_with_that_of_the_next_sample() -> None:
    """Whoever upgrades would lose the chains, or the gaps in them."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    arrays = ranges.state()
    del arrays["learned.log"]
    restored = LearnedRanges.restore(arrays)
    assert restored.of("ada", LOG_ID) == ranges.of("ada", LOG_ID)
    learn(restored, 6, 9)
    assert restored.of("ada", LOG_ID) == {"position": 9, "records": 4, "gaps": 1, "overlaps": 0, "first": -1}
    assert restored.of("ada", "log-2")["records"] == 0


def test_ranges_of_an_older_version_are_refused() -> None:
    """Columns that are missing would be made up."""
    arrays = LearnedRanges().state()
    del arrays["learned.first"]
    with pytest.raises(ValueError, match="learned ranges lack first"):
        LearnedRanges.restore(arrays)


@pytest.mark.parametrize("users", [[], ["ada"], ["ada", "bob", "", "né", "日本語 \U0001f600"]])
def test_ranges_survive_the_trainer_file(users: list[str]) -> None:
    """A restarted learner would call everything a gap."""
    ranges = LearnedRanges()
    for place, user_id in enumerate(users):
        learn(ranges, place, 2**50 + place, user_id=user_id)
    restored = LearnedRanges.restore(ranges.state())
    assert len(restored) == len(users)
    for user_id in users:
        assert restored.of(user_id, LOG_ID) == ranges.of(user_id, LOG_ID)


def test_state_is_a_copy() -> None:
    """A snapshot is written in a thread while the learner goes on."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    state = ranges.state()
    learn(ranges, 4, 9)
    assert LearnedRanges.restore(state).of("ada", LOG_ID)["position"] == 4


def test_who_was_forgotten_begins_a_new_chain() -> None:
    """The first sample after would overlap with all that was learned before."""
    ranges = LearnedRanges()
    learn(ranges, -1, 4)
    learn(ranges, -1, 5, user_id="bob")
    ranges.forget("ada")
    ranges.forget("nobody")
    assert ranges.of("ada", LOG_ID)["records"] == 0
    assert b"ada" not in ranges.state()["learned.user_bytes"].tobytes()
    learn(ranges, -1, 9, num_records=3)
    assert ranges.of("ada", LOG_ID) == {"position": 9, "records": 3, "gaps": 0, "overlaps": 0, "first": -1}
    assert ranges.of("bob", LOG_ID)["records"] == 2

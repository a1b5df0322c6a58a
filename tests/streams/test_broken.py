"""Broken records: each is refused, for the cause that it says."""

import pytest

from streams.broken import broken_records
from streams.events import MAX_EVENT_BYTES, InvalidEventError, decode_event

NOW_MS = 1_700_000_000_000
ACTIONS = frozenset({"like", "dislike", "rate"})


@pytest.mark.parametrize("place", range(15))
def test_each_kind_is_refused_for_its_cause(place: int) -> None:
    """The demo would slip in records that are valid, or that count under another cause."""
    key, value, cause = list(broken_records(NOW_MS, 15))[place]
    with pytest.raises(InvalidEventError) as raised:
        decode_event(key, value, NOW_MS, ACTIONS)
    assert raised.value.cause == cause


def test_all_kinds_that_users_meet_are_among_them() -> None:
    """A kind that is never sent is never seen to be refused."""
    causes = {cause for _, _, cause in broken_records(NOW_MS, 25)}
    assert causes == {
        *("malformed_json", "missing_field", "wrong_type", "unknown_action", "id_length", "items_length"),
        *("future_time", "not_finite", "empty_key", "too_large", "malformed_msgpack"),
    }


def test_there_are_as_many_as_asked_for() -> None:
    """The demo's count of dead letters would not add up."""
    for count in (0, 1, 15, 25):
        assert len(list(broken_records(NOW_MS, count))) == count


def test_the_large_one_is_larger_than_the_limit_and_smaller_than_a_broker_s() -> None:
    """A client would refuse to send it, so that no worker ever sees one."""
    sizes = [len(value) for _, value, cause in broken_records(NOW_MS, 15) if cause == "too_large"]
    assert all(MAX_EVENT_BYTES < size < 1_000_000 for size in sizes)
    assert sizes

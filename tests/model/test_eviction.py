import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.eviction import Capacity, Sightings, Ttl


def seen_factory(counts: list[float], ages: list[int] | None = None, idle: list[int] | None = None) -> Sightings:
    rows = 3 * np.arange(len(counts)) + 1
    zeros = [0] * len(counts)
    return Sightings(
        rows, np.array(counts, np.float32), np.array(idle or zeros), np.array(ages or [1_000] * len(counts))
    )


def test_ids_that_did_not_come_for_their_time_to_live_go() -> None:
    assert Ttl(10).victims(seen_factory([1, 1, 1], idle=[10, 11, 900])).tolist() == [4, 7]


def test_below_the_high_mark_nobody_goes() -> None:
    assert Capacity(max_items=10).victims(seen_factory([0.0] * 8)).tolist() == []


def test_the_least_seen_go_until_the_low_mark_and_of_equal_ones_the_lower_rows() -> None:
    """The most popular items would go, or others after a restart."""
    rule = Capacity(max_items=10, high=0.9, low=0.5)
    assert rule.victims(seen_factory([5, 1, 2, 1, 9, 1, 8, 7, 6])).tolist() == [4, 7, 10, 16]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=60), st.integers(16, 60))
def test_never_more_than_asked_and_never_a_newborn(seen: list[tuple[int, int]], max_items: int) -> None:
    """A newborn would go before it had a chance to be counted."""
    rule = Capacity(max_items=max_items, high=0.75, low=0.5, grace=0.25)
    counts, ages = [float(count) for count, _ in seen], [age for _, age in seen]
    victims = rule.victims(seen_factory(counts, ages))
    place = (victims - 1) // 3
    is_old = np.array(ages, np.int64) > 0.25 * max_items
    asked = len(seen) - int(0.5 * max_items) if len(seen) >= 0.75 * max_items else 0
    assert len(np.unique(place)) == len(place) == max(0, min(asked, is_old.sum()))
    assert is_old[place].all()
    left = np.setdiff1d(np.flatnonzero(is_old), place)
    if len(place) and len(left):
        assert max(counts[each] for each in place) <= min(counts[each] for each in left)

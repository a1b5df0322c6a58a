import numpy as np

from model.popularity import HALF_LIFE_EVENTS, Popularity


def test_counts_equal_a_plain_decayed_sum_even_after_the_origin_moved() -> None:
    """The bar that every figure is compared with would drift."""
    rng = np.random.default_rng(0)
    actions = rng.integers(5, size=60 * HALF_LIFE_EVENTS)
    popularity = Popularity()
    for part in np.array_split(actions, 3_000):
        popularity.update(part)
    ages = len(actions) - 1 - np.arange(len(actions))
    expected = np.bincount(actions, weights=0.5 ** (ages / HALF_LIFE_EVENTS), minlength=5)
    np.testing.assert_allclose(popularity.counts(5), expected, rtol=1e-9)


def test_an_action_counts_for_later_actions_of_its_batch_but_not_for_itself() -> None:
    """A target that had already been counted would look popular."""
    popularity = Popularity()
    before = popularity.before_each(np.array([2, 2, 0]), 3)
    assert before[0].tolist() == [0, 0, 0]
    assert before[1].tolist() == [0, 0, 1]
    popularity.update(np.array([2, 2]))
    assert np.array_equal(before[2], popularity.counts(3))


def test_a_restored_popularity_goes_on_as_if_never_stopped() -> None:
    """A restart would change the bar."""
    one = Popularity()
    one.update(np.array([1, 5, 1]))
    other = Popularity()
    other.load(one.state(6))
    for popularity in (one, other):
        popularity.update(np.array([5, 2_000]))
    assert np.array_equal(one.counts(2_001), other.counts(2_001))

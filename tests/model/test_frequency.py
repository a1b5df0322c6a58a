import numpy as np

from model.frequency import DECAY, YOUNG_STEPS, Frequency


def counted(steps: list[list[int]], num_rows: int) -> Frequency:
    frequency = Frequency()
    for rows in steps:
        frequency.update(np.array(rows, np.int64), num_rows)
    return frequency


def test_a_lazily_decayed_count_equals_a_plain_decayed_sum() -> None:
    """A row that was not touched for long would be taken for as frequent as it was then."""
    draws = np.random.default_rng(0)
    steps = [draws.integers(40, size=5).tolist() for _ in range(500)]
    expected = np.zeros(40)
    for rows in steps:
        expected = expected * DECAY + np.bincount(rows, minlength=40)
    np.testing.assert_allclose(counted(steps, 40).counts(np.arange(40)), expected, rtol=1e-5)


def test_shares_come_to_the_true_ones_from_the_first_steps_on() -> None:
    """logQ would take everything for rare until the stream is a horizon old."""
    draws = np.random.default_rng(0)
    true = np.array([0.5, 0.3, 0.15, 0.05])
    for num_steps in (20, 2_000):
        steps = [draws.choice(4, 64, p=true).tolist() for _ in range(num_steps)]
        np.testing.assert_allclose(counted(steps, 4).shares(np.arange(4)), true, rtol=0.2)


def test_a_row_that_came_late_is_as_frequent_as_an_old_one_that_comes_as_often() -> None:
    """A newborn item would be pushed up for seeming rare: its count has had less time."""
    frequency = counted([[0, 0]] * 1_000, 1)
    for _ in range(YOUNG_STEPS):
        frequency.update(np.array([0, 1]), 2)
    assert not frequency.young(np.array([0, 1]))[0]
    np.testing.assert_allclose(frequency.shares(np.array([1])), [0.5], rtol=1e-3)


def test_a_row_is_young_for_a_hundred_steps_after_it_was_born() -> None:
    """An item that nobody had time to take would be a negative."""
    frequency = counted([[0]] * 1_000, 1)
    for _ in range(YOUNG_STEPS):
        frequency.update(np.array([0]), 2)
        assert frequency.young(np.array([0, 1])).tolist() == [False, True]
    frequency.update(np.array([0]), 2)
    assert frequency.young(np.array([0, 1])).tolist() == [False, False]


def test_where_all_is_new_only_a_tenth_of_the_stream_is_young() -> None:
    """A stream's first hundred steps would have no uniform negatives."""
    frequency = counted([[0]] * 40, 1)
    assert not frequency.young(np.array([0]))[0]
    for age in range(1, 7):
        frequency.update(np.array([0]), 2)
        assert frequency.young(np.array([0, 1])).tolist() == [False, age <= 4]


def test_a_row_that_never_was_a_target_has_a_share() -> None:
    """A replayed item that was never counted would have log 0."""
    frequency = counted([[0]], 2)
    assert 0 < frequency.shares(np.array([1]))[0] < np.inf


def test_a_cleared_row_starts_like_one_that_is_new() -> None:
    """An item in a slot that was another's would inherit how frequent that was."""
    frequency, fresh = counted([[0, 0, 1]] * 200, 2), counted([[0, 0, 0]] * 200, 1)
    frequency.clear(np.array([1]))
    assert frequency.young(np.array([0, 1])).tolist() == [False, True]
    for each in (frequency, fresh):
        each.update(np.array([0, 1]), 2)
        assert each.counts(np.array([1])).tolist() == [1]
    assert frequency.shares(np.array([1])) == fresh.shares(np.array([1]))


def test_a_restored_frequency_goes_on_bit_for_bit() -> None:
    """A restart would change what is learned."""
    one, other = counted([[0, 2], [2, 1]], 3), Frequency()
    other.load(one.state())
    for frequency in (one, other):
        frequency.update(np.array([2_000, 1]), 2_001)
    for name, array in one.state().items():
        assert array.tobytes() == other.state()[name].tobytes(), name

"""Two models on the same targets: figures by hand, tests by published formulas."""

import numpy as np
import pytest

from model.comparison import compare, mcnemar, sliding_windows


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"),
    [(0, 0, 1.0), (3, 3, 1.0), (0, 5, 2 / 32), (5, 0, 2 / 32), (1, 4, 2 * 6 / 32), (2, 9, 2 * (1 + 11 + 55) / 2**11)],
)
def test_few_discordant_pairs_are_tested_by_the_binomial(only_a: int, only_b: int, p_value: float) -> None:
    """Chi squared says p < .05 for five of five; the binomial does not."""
    test = mcnemar(only_a, only_b)
    assert (test.exact, test.only_a, test.only_b) == (True, only_a, only_b)
    assert test.statistic == min(only_a, only_b)
    assert test.p_value == pytest.approx(p_value)


def test_many_discordant_pairs_are_tested_by_chi_squared_with_correction() -> None:
    """Table of chi squared, one degree of freedom: 3.8415 is p = .05 and 6.6349 p = .01."""
    test = mcnemar(86, 150)
    assert not test.exact
    assert test.statistic == pytest.approx(63**2 / 236)
    assert mcnemar(121, 59).statistic == pytest.approx(61**2 / 180)
    assert mcnemar(13, 13).p_value == 1
    for statistic, p_value in ((3.8415, 0.05), (6.6349, 0.01)):
        # |a - b| - 1 = sqrt(statistic pairs), for the nearest whole numbers.
        gap = round(np.sqrt(statistic * 10**6)) + 1
        near = mcnemar((10**6 + gap) // 2, 10**6 - (10**6 + gap) // 2)
        assert near.p_value == pytest.approx(p_value, rel=0.01)


def test_the_exact_test_and_chi_squared_meet_where_one_gives_way_to_the_other() -> None:
    """A figure would jump at 25 pairs."""
    assert mcnemar(6, 19).p_value == pytest.approx(mcnemar(6, 20).p_value, rel=0.5)
    assert (mcnemar(6, 19).exact, mcnemar(6, 20).exact) == (True, False)


def test_figures_and_discordant_pairs_by_hand() -> None:
    """Ranks that are no numbers are misses, and hits end at rank 10."""
    a = np.array([1.0, 10.0, 10.5, np.inf, 3.0])
    b = np.array([1.0, 11.0, np.nan, 2.0, 30.0])
    found = compare(a, b, np.array([0, 0, 1, 1, 2]))
    assert found.events == 5
    assert (found.hit_rate.a, found.hit_rate.b) == (3 / 5, 2 / 5)
    assert found.hit_rate.difference == pytest.approx(1 / 5)
    assert found.ndcg.a == pytest.approx((1 + 1 / np.log2(11) + 1 / np.log2(4)) / 5)
    assert found.ndcg.b == pytest.approx((1 + 1 / np.log2(3)) / 5)
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (2, 1)
    assert found.hit_rate.low <= 1 / 5 <= found.hit_rate.high


def test_intervals_are_as_wide_as_users_differ() -> None:
    """Events of one user counted as independent make every difference significant."""
    rng, users = np.random.default_rng(0), np.repeat(np.arange(40), 50)
    of_users, of_events = rng.integers(2, size=40)[users], rng.integers(2, size=2_000)
    clustered, spread = (
        compare(np.where(better, 1.0, 20.0), np.where(better, 20.0, 1.0), users).hit_rate
        for better in (of_users == 1, of_events == 1)
    )
    # Each user's mean is -1 or 1: the deviation of the mean of 40 is 1 / sqrt(40); of 2,000 events 1 / sqrt(2000).
    assert clustered.high - clustered.low == pytest.approx(2 * 1.96 / np.sqrt(40), rel=0.2)
    assert spread.high - spread.low == pytest.approx(2 * 1.96 / np.sqrt(2_000), rel=0.2)


def test_a_run_against_itself_differs_in_nothing() -> None:
    """An interval around 0 would be read as a difference that was not found."""
    ranks = np.random.default_rng(0).integers(1, 30, size=200).astype(float)
    found = compare(ranks, ranks, np.arange(200) % 9)
    for difference in (found.hit_rate, found.ndcg):
        assert (difference.difference, difference.low, difference.high) == (0, 0, 0)
    assert found.mcnemar.p_value == 1
    with pytest.raises(ValueError, match="at least one target"):
        compare(ranks[:0], ranks[:0], np.zeros(0, np.int64))


def test_windows_slide_by_half_and_count_for_themselves() -> None:
    """A change in the middle of a stream is what windows are for."""
    a = np.array([1.0] * 20 + [20.0] * 20)
    b = np.array([20.0] * 20 + [1.0] * 23)[:40]
    windows = list(sliding_windows(a, b, 20))
    assert [(part.first, part.events) for part in windows] == [(0, 20), (10, 20), (20, 20)]
    assert [(part.hit_rate_a, part.hit_rate_b) for part in windows] == [(1, 0), (0.5, 0.5), (0, 1)]
    assert [part.mcnemar.p_value < 0.01 for part in windows] == [True, False, True]
    assert list(sliding_windows(a, b, 41)) == []
    with pytest.raises(ValueError, match="window must be >= 2 targets, got 1"):
        list(sliding_windows(a, b, 1))

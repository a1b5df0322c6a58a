"""Delays from event to the weights that answer."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from deploy.freshness import MAX_PENDING, Freshness


class Clock:
    def __init__(self) -> None:
        self.now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


def test_a_record_is_measured_at_the_first_answer_of_its_version() -> None:
    """Loading a version proves nothing: the figure ends where a user gets an answer from it."""
    clock = Clock()
    freshness = Freshness(clock)
    freshness.learned(2, [(1_000, 3)])
    clock.now_ms = 4_000
    freshness.answered(1)
    assert freshness.count == 0
    clock.now_ms = 5_000
    freshness.answered(2)
    clock.now_ms = 9_000
    freshness.answered(2)
    assert freshness.count == 3
    assert freshness.quantile_seconds(0.5) == pytest.approx(4.0, abs=0.0101)


def test_a_version_that_never_answered_is_measured_with_the_next() -> None:
    clock = Clock()
    freshness = Freshness(clock)
    freshness.learned(2, [(1_000, 1)])
    freshness.learned(3, [(2_000, 1)])
    clock.now_ms = 3_000
    freshness.answered(3)
    assert freshness.count == 2
    assert freshness.quantile_seconds(0.5) == pytest.approx(1.0, abs=0.0101)
    assert freshness.quantile_seconds(1.0) == pytest.approx(2.0, abs=0.0101)


def test_an_answer_of_the_former_version_measures_nothing_of_the_newer() -> None:
    """A request that began before the swap must not make the newer version look answered."""
    clock = Clock()
    freshness = Freshness(clock)
    freshness.learned(2, [(1_000, 1)])
    freshness.learned(3, [(2_000, 1)])
    clock.now_ms = 3_000
    freshness.answered(2)
    assert freshness.count == 1


def test_quantiles_are_those_of_the_sorted_delays() -> None:
    rng = np.random.default_rng(0)
    delays_ms = rng.integers(0, 20_000, 5_000)
    freshness = Freshness(lambda: 20_000)
    for serial, part in enumerate(np.array_split(delays_ms, 7)):
        freshness.learned(serial, [(20_000 - int(delay), 1) for delay in part])
        freshness.answered(serial)
    for share in (0.5, 0.95, 0.99):
        expected = np.quantile(delays_ms, share, method="inverted_cdf") / 1000
        assert freshness.quantile_seconds(share) == pytest.approx(expected, abs=0.0101)


def test_without_a_measurement_there_is_no_quantile() -> None:
    assert Freshness(lambda: 0).quantile_seconds(0.95) is None


def test_delays_outside_the_range_count_at_its_ends() -> None:
    """A broker's clock may run ahead of ours; a lost hour must not be lost from the figures."""
    freshness = Freshness(lambda: 10_000_000)
    freshness.learned(1, [(10_000_500, 1), (0, 1)])
    freshness.answered(1)
    assert freshness.count == 2
    assert freshness.quantile_seconds(0.5) == pytest.approx(0.01)
    assert freshness.quantile_seconds(1.0) == pytest.approx(600, abs=0.02)


def test_records_waiting_for_an_answer_are_bounded_and_counted() -> None:
    """A server that nobody asks must not grow for ever."""
    freshness = Freshness(lambda: 10)
    half = [(0, 1)] * (MAX_PENDING // 2)
    for serial in range(4):
        freshness.learned(serial, half)
    freshness.answered(9)
    assert freshness.num_dropped == MAX_PENDING
    assert freshness.count == MAX_PENDING


def test_the_exported_histogram_agrees_with_the_figures() -> None:
    freshness = Freshness(lambda: 10_000)
    freshness.learned(1, [(9_900, 2), (9_000, 3), (5_000, 4), (0, 1)])
    freshness.answered(1)
    registry = CollectorRegistry()
    registry.register(freshness)
    text = generate_latest(registry).decode()
    for line in (
        'headwater_event_to_weights_seconds_bucket{le="0.25"} 2.0',
        'headwater_event_to_weights_seconds_bucket{le="1.25"} 5.0',
        'headwater_event_to_weights_seconds_bucket{le="5.0"} 5.0',
        'headwater_event_to_weights_seconds_bucket{le="6.0"} 9.0',
        'headwater_event_to_weights_seconds_bucket{le="+Inf"} 10.0',
        "headwater_event_to_weights_seconds_count 10.0",
        "headwater_event_to_weights_seconds_sum 33.2",
    ):
        assert line in text.splitlines()

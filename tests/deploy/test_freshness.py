"""Delays from event to the weights that answer."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from deploy.freshness import MAX_PENDING, Freshness
from deploy.freshness_parts import PARTS, LearnedRecords, learned_records
from storage.manifest import ManifestDraft


class Clock:
    def __init__(self) -> None:
        self.now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


def pairs(learned_kafka_ms: list[tuple[int, int]]) -> list[LearnedRecords]:
    """The records of a version of which nothing else is told."""
    return [learned_records(ManifestDraft(run_id="run", version=1, learned_kafka_ms=learned_kafka_ms))]


def test_a_record_is_measured_at_the_first_answer_of_its_version() -> None:
    """Loading a version proves nothing: the figure ends where a user gets an answer from it."""
    clock = Clock()
    freshness = Freshness(clock)
    freshness.learned(2, pairs([(1_000, 3)]))
    clock.now_ms = 4_000
    freshness.answered(1)
    assert freshness.whole.count == 0
    clock.now_ms = 5_000
    freshness.answered(2)
    clock.now_ms = 9_000
    freshness.answered(2)
    assert freshness.whole.count == 3
    assert freshness.whole.quantile_seconds(0.5) == pytest.approx(4.0, abs=0.0101)


def test_a_version_that_never_answered_is_measured_with_the_next() -> None:
    clock = Clock()
    freshness = Freshness(clock)
    freshness.learned(2, pairs([(1_000, 1)]))
    freshness.learned(3, pairs([(2_000, 1)]))
    clock.now_ms = 3_000
    freshness.answered(3)
    assert freshness.whole.count == 2
    assert freshness.whole.quantile_seconds(0.5) == pytest.approx(1.0, abs=0.0101)
    assert freshness.whole.quantile_seconds(1.0) == pytest.approx(2.0, abs=0.0101)


def test_an_answer_of_the_former_version_measures_nothing_of_the_newer() -> None:
    """A request that began before the swap must not make the newer version look answered."""
    clock = Clock()
    freshness = Freshness(clock)
    freshness.learned(2, pairs([(1_000, 1)]))
    freshness.learned(3, pairs([(2_000, 1)]))
    clock.now_ms = 3_000
    freshness.answered(2)
    assert freshness.whole.count == 1


def test_quantiles_are_those_of_the_sorted_delays() -> None:
    rng = np.random.default_rng(0)
    delays_ms = rng.integers(0, 20_000, 5_000)
    freshness = Freshness(lambda: 20_000)
    for serial, part in enumerate(np.array_split(delays_ms, 7)):
        freshness.learned(serial, pairs([(20_000 - int(delay), 1) for delay in part]))
        freshness.answered(serial)
    for share in (0.5, 0.95, 0.99):
        expected = np.quantile(delays_ms, share, method="inverted_cdf") / 1000
        assert freshness.whole.quantile_seconds(share) == pytest.approx(expected, abs=0.0101)


def test_without_a_measurement_there_is_no_quantile() -> None:
    assert Freshness(lambda: 0).whole.quantile_seconds(0.95) is None


def test_delays_outside_the_range_count_at_its_ends() -> None:
    """A broker's clock may run ahead of ours; a lost hour must not be lost from the figures."""
    freshness = Freshness(lambda: 10_000_000)
    freshness.learned(1, pairs([(10_000_500, 1), (0, 1)]))
    freshness.answered(1)
    assert freshness.whole.count == 2
    assert freshness.whole.quantile_seconds(0.5) == pytest.approx(0.01)
    assert freshness.whole.quantile_seconds(1.0) == pytest.approx(600, abs=0.02)


def test_records_waiting_for_an_answer_are_bounded_and_counted() -> None:
    """A server that nobody asks must not grow for ever."""
    freshness = Freshness(lambda: 10)
    half = [(0, 1)] * (MAX_PENDING // 2)
    for serial in range(4):
        freshness.learned(serial, pairs(half))
    freshness.answered(9)
    assert freshness.num_dropped == MAX_PENDING
    assert freshness.whole.count == MAX_PENDING


def test_the_exported_histogram_agrees_with_the_figures() -> None:
    freshness = Freshness(lambda: 10_000)
    freshness.learned(1, pairs([(9_900, 2), (9_000, 3), (5_000, 4), (0, 1)]))
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


def timed(version: int = 1) -> ManifestDraft:
    """Records of two steps; every part of theirs lasts something else."""
    return ManifestDraft(
        run_id="run",
        version=version,
        learned_kafka_ms=[(1_000, 2), (1_100, 1), (1_050, 4)],
        learned_times=[(1_200, 1_500, 1_900, 2), (1_210, 1_700, 2_200, 1)],
        created_ms=2_900,
        cut_ms=2_950,
    )


def test_each_part_lasts_from_the_end_of_the_one_before() -> None:
    """Whoever shortens the longest part would shorten another."""
    parts_ms = learned_records(timed()).parts_ms((3_100, 3_400, 3_430, 4_000))
    assert parts_ms.T.tolist() == [
        [200, 300, 400, 1_000, 50, 150, 300, 30, 570],
        [100, 300, 400, 1_000, 50, 150, 300, 30, 570],
        [160, 490, 500, 700, 50, 150, 300, 30, 570],
    ]
    assert len(parts_ms) == len(PARTS)


def test_parts_add_up_for_every_record_whatever_the_clocks_say() -> None:
    """A part of a day, or a negative one, would follow from two machines whose clocks differ by a second."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        times = rng.integers(0, 10_000, (3, 9))
        manifest = ManifestDraft(
            run_id="run",
            version=1,
            learned_kafka_ms=[(int(kafka_ms), 1) for kafka_ms in times[0, :7]],
            learned_times=[
                (int(times[1, 0]), int(times[1, 1]), int(times[1, 2]), 3),
                (int(times[1, 3]), int(times[1, 4]), int(times[1, 5]), 4),
            ],
            created_ms=int(times[1, 6]),
            cut_ms=int(times[1, 7]),
        )
        later_ms = tuple(map(int, times[2, :4]))
        parts_ms = learned_records(manifest).parts_ms(later_ms)
        assert (parts_ms >= 0).all()
        whole_ms = np.maximum(later_ms[-1] - times[0, :7], 0)
        np.testing.assert_array_equal(parts_ms.sum(0), whole_ms)


def test_what_nobody_noted_counts_for_the_next_part_that_is_known() -> None:
    """Versions of an older learner would count as learned in 1970."""
    older = ManifestDraft(run_id="run", version=1, learned_kafka_ms=[(1_000, 1)], created_ms=3_000)
    parts_ms = learned_records(older).parts_ms((3_500, 3_600, 3_700, 4_000))
    assert dict(zip(PARTS, parts_ms[:, 0].tolist(), strict=True)) == {
        **dict.fromkeys(("worker", "queue", "learn", "cut"), 0),
        "wait": 2_000,
        "publish": 500,
        "fetch": 100,
        "apply": 100,
        "answer": 300,
    }


@pytest.mark.parametrize("lengths", [(1, 1), (3, 1), (2**62, 2**62, 2**62, 2**62, 3)])
def test_times_that_do_not_fit_the_pairs_are_left_out(lengths: tuple[int, ...]) -> None:
    """Every answer would fail over a manifest that somebody wrote by hand."""
    runs = [(1_200, 1_500, 1_900, length) for length in lengths]
    manifest = ManifestDraft(run_id="run", version=1, learned_kafka_ms=[(1_000, 1)] * 3, learned_times=runs)
    parts_ms = learned_records(manifest).parts_ms((3_100, 3_400, 3_430, 4_000))
    assert parts_ms.sum(0).tolist() == [3_000] * 3


def test_parts_are_counted_with_the_whole_and_exported() -> None:
    """Parts of other records than the whole's would not explain it."""
    clock = Clock()
    freshness = Freshness(clock)
    clock.now_ms = 3_430
    freshness.learned(2, [learned_records(timed(1)), learned_records(timed(2))], moved_ms=3_100, fetched_ms=3_400)
    freshness.answered(1)
    assert freshness.parts["answer"].count == 0
    clock.now_ms = 4_000
    freshness.answered(2)
    assert {part: bins.count for part, bins in freshness.parts.items()} == dict.fromkeys(PARTS, freshness.whole.count)
    assert freshness.whole.count == 14
    assert freshness.parts["fetch"].quantile_seconds(0.95) == pytest.approx(0.31)
    registry = CollectorRegistry()
    registry.register(freshness)
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        'headwater_freshness_seconds_bucket{le="0.2",part="publish"} 14.0',
        'headwater_freshness_seconds_bucket{le="0.1",part="publish"} 0.0',
        'headwater_freshness_seconds_count{part="worker"} 14.0',
        'headwater_freshness_seconds_sum{part="fetch"} 4.2',
    ):
        assert line in lines
    sums = [float(line.split()[1]) for line in lines if line.startswith("headwater_freshness_seconds_sum")]
    assert sum(sums) == pytest.approx(2 * (2 * 3_000 + 2_900 + 4 * 2_950) / 1000)

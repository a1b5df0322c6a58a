"""Samples that expired before the learner took them are told, and never jumped over in silence."""

import logging
from typing import Any

import pytest
from kafka.errors import OffsetOutOfRangeError  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.errors import SetupError
from tests.streams.learner_bench import Bench, BenchFactory
from tests.streams.made_samples import LOG_ID, SampleLog, make_samples


@pytest.fixture
def late_bench(bench_factory: BenchFactory) -> Bench:
    """A learner that learned 20 samples, went away, and missed some of the next 40."""
    samples = make_samples(60)
    log = SampleLog().send(samples[:20])
    bench = bench_factory(log)
    bench.run()
    learned = {number: len(values) for number, values in log.partitions.items()}
    log.send(samples[20:])
    log.earliest[0] = learned[0] + 5
    return bench


def test_a_learner_that_was_down_too_long_says_what_is_missing_and_stops(late_bench: Bench) -> None:
    """It would go on with a hole in what it knows, and nobody would be told."""
    start = late_bench.log.earliest[0] - 5
    told = (
        rf"samples\[0\] offsets {start} to {start + 4}; the newest version is .* h old.*learner.missing_samples to skip"
    )
    learner = late_bench.learner()
    with pytest.raises(SetupError, match=told):
        learner.run()
    assert learner.metrics.missing._value.get() == 0
    assert learner.metrics.samples._value.get() == 0


def test_it_goes_on_without_them_where_it_is_told_to(late_bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """There has to be a way on that keeps what was learned."""
    late_bench.missing_samples = "skip"
    with caplog.at_level(logging.ERROR):
        learner = late_bench.run()
    assert "going on without them" in caplog.text
    assert learner.metrics.missing._value.get() == 5
    assert learner.metrics.samples._value.get() == 35
    ranges = late_bench.ranges()
    assert sum(ranges.of(f"u{user}", LOG_ID)["gaps"] for user in range(5)) >= 1


def test_samples_that_expire_while_it_runs_are_told_as_well(late_bench: Bench) -> None:
    """Retention does not wait for a learner that is slow."""
    earliest, late_bench.log.earliest[0] = late_bench.log.earliest[0], 0
    late_bench.missing_samples = "skip"

    def expire(number: int) -> None:
        late_bench.clock.tick(number)
        late_bench.log.earliest[0] = earliest + 10

    learner = late_bench.learner()
    learner.consumer.on_poll = expire
    learner.run()
    assert learner.metrics.missing._value.get() == 15
    assert learner.metrics.samples._value.get() == 25


def test_a_learner_that_begins_takes_what_there_is(bench_factory: BenchFactory) -> None:
    """Samples from before it was there are none that it missed."""
    log = SampleLog().send(make_samples(60))
    log.earliest[0] = 4
    learner = bench_factory(log).run()
    assert learner.metrics.missing._value.get() == 0
    assert learner.metrics.samples._value.get() == 56


def test_a_partition_that_had_nothing_before_counts_from_its_first_offset(late_bench: Bench) -> None:
    """Its first samples may have expired just as well."""
    late_bench.missing_samples = "skip"
    late_bench.log.partitions[2] = list[Any](late_bench.log.partitions[1])
    late_bench.log.earliest[2] = 3
    learner = late_bench.learner()
    learner._reader.seek(learner.model.offsets)
    assert learner.metrics.missing._value.get() == 5 + 3


def test_a_topic_that_was_cut_is_another_fault(late_bench: Bench) -> None:
    """Samples beyond the end did not expire."""
    late_bench.log.earliest[0] = 0
    late_bench.log.partitions[0] = late_bench.log.partitions[0][:3]
    with pytest.raises(OffsetOutOfRangeError):
        late_bench.run()

"""High-water marks: what is taken for a duplicate, and what is not."""

import logging

import pytest

from storage.manifest import SampleMark
from streams.marks import MAX_FORMER_LOGS, SampleMarks
from tests.streams.made_samples import LOG_ID, sample_factory


def test_what_lies_at_or_below_the_mark_is_a_duplicate() -> None:
    """A sample sent again after a worker's restore would be learned twice."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(trigger_offset=5))
    assert not marks.is_new(sample_factory(trigger_offset=5))
    assert not marks.is_new(sample_factory(trigger_offset=4))
    assert marks.is_new(sample_factory(trigger_offset=6))
    assert marks.is_new(sample_factory(trigger_offset=5, n=1))


def test_the_first_sample_of_a_partition_is_new(caplog: pytest.LogCaptureFixture) -> None:
    """The record at offset 0 would be lost, or a learner that begins would speak of a former log."""
    marks = SampleMarks()
    assert marks.is_new(sample_factory(trigger_offset=0))
    marks.pass_over(sample_factory(trigger_offset=0))
    assert not caplog.records


def test_partitions_have_marks_of_their_own() -> None:
    """A busy partition would make every sample of a quiet one a duplicate."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(partition=1, trigger_offset=1_000))
    assert marks.is_new(sample_factory(partition=0, trigger_offset=1))


@pytest.mark.parametrize("epoch", [0, 3, 4])
def test_a_log_not_seen_before_begins_at_its_first_sample_whatever_its_epoch(
    epoch: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that was made from nothing is in epoch 0 again: all that it sends would be dropped without a word."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(epoch=3, trigger_offset=1_000))
    first = sample_factory(topic_id="log-2", epoch=epoch, trigger_offset=0)
    assert marks.is_new(first)
    with caplog.at_level(logging.WARNING):
        marks.pass_over(first)
        marks.pass_over(sample_factory(topic_id="log-2", epoch=epoch, trigger_offset=1))
    assert [record.getMessage() for record in caplog.records] == [
        f"samples of partition 0 are of another log now: topic id log-2 in epoch {epoch}, formerly log-1 in epoch 3"
    ]
    assert not marks.is_new(first)


def test_a_former_log_keeps_its_mark() -> None:
    """A store that comes back sends the last samples of a former log: those taken come twice, the others are lost."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(trigger_offset=1_000))
    marks.pass_over(sample_factory(topic_id="log-2", trigger_offset=7))
    assert not marks.is_new(sample_factory(trigger_offset=1_000))
    assert marks.is_new(sample_factory(trigger_offset=1_001))
    marks.pass_over(sample_factory(trigger_offset=1_001))
    assert marks.as_manifest()["0"].topic_id == LOG_ID, "that of the newest sample"
    assert not marks.is_new(sample_factory(topic_id="log-2", trigger_offset=7))
    assert marks.is_new(sample_factory(topic_id="log-2", trigger_offset=8))


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0)])
def test_stores_in_other_epochs_of_one_log_have_one_mark(before: int, after: int) -> None:
    """A partition that moves to a store made later, or earlier, would be learned twice, or dropped."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(epoch=before, trigger_offset=900))
    assert not marks.is_new(sample_factory(epoch=after, trigger_offset=900))
    assert marks.is_new(sample_factory(epoch=after, trigger_offset=901))


def test_a_mark_without_a_log_takes_that_of_the_first_sample_above_it(caplog: pytest.LogCaptureFixture) -> None:
    """A learner that goes on from an older manifest would learn twice what it learned before."""
    marks = SampleMarks({"0": SampleMark(epoch=3, trigger_offset=16, n=1)})
    assert not marks.is_new(sample_factory(epoch=3, trigger_offset=16, n=1))
    assert not marks.is_new(sample_factory(epoch=2, trigger_offset=99))
    assert marks.is_new(sample_factory(epoch=4, trigger_offset=0))
    later = sample_factory(epoch=3, trigger_offset=16, n=2)
    assert marks.is_new(later)
    marks.pass_over(later)
    assert marks.as_manifest()["0"] == SampleMark(topic_id=LOG_ID, epoch=3, trigger_offset=16, n=2)
    assert not caplog.records


def test_the_logs_of_a_partition_are_limited() -> None:
    """Whoever makes topics anew every day would have manifests that only grow."""
    marks = SampleMarks()
    for number in range(MAX_FORMER_LOGS + 3):
        marks.pass_over(sample_factory(topic_id=f"log-{number}", epoch=number))
    mark = marks.as_manifest()["0"]
    assert mark.topic_id == f"log-{MAX_FORMER_LOGS + 2}"
    assert list(mark.former) == [f"log-{number}" for number in range(2, MAX_FORMER_LOGS + 2)]


def test_passing_over_what_is_not_new_cannot_happen() -> None:
    """A mark that falls would let duplicates in."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(trigger_offset=5))
    with pytest.raises(AssertionError):
        marks.pass_over(sample_factory(trigger_offset=4))


def test_marks_survive_the_manifest() -> None:
    """A restart would begin without them."""
    marks = SampleMarks()
    for partition, offset in ((10, 7), (2, 9)):
        marks.pass_over(sample_factory(partition=partition, trigger_offset=offset, epoch=3, n=1))
    marks.pass_over(sample_factory(topic_id="log-2", partition=10, trigger_offset=4))
    manifest = marks.as_manifest()
    assert list(manifest) == ["2", "10"]
    assert manifest["10"] == SampleMark(topic_id="log-2", epoch=0, trigger_offset=4, n=0, former={LOG_ID: (7, 1)})
    assert SampleMarks(manifest).as_manifest() == manifest
    assert not SampleMarks(manifest).is_new(sample_factory(partition=10, trigger_offset=7, epoch=3, n=1))
    assert not SampleMarks(manifest).is_new(sample_factory(partition=2, trigger_offset=9, epoch=3, n=1))

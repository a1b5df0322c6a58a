"""High-water marks: what is taken for a duplicate, and what is not."""

import pytest

from storage.manifest import SampleMark
from streams.marks import SampleMarks
from tests.streams.made_samples import sample_factory


def test_what_lies_at_or_below_the_mark_is_a_duplicate() -> None:
    """A sample sent again after a worker's restore would be learned twice."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(trigger_offset=5))
    assert not marks.is_new(sample_factory(trigger_offset=5))
    assert not marks.is_new(sample_factory(trigger_offset=4))
    assert marks.is_new(sample_factory(trigger_offset=6))
    assert marks.is_new(sample_factory(trigger_offset=5, n=1))


def test_the_first_sample_of_a_partition_is_new() -> None:
    """The record at offset 0 would be lost."""
    assert SampleMarks().is_new(sample_factory(trigger_offset=0))


def test_partitions_have_marks_of_their_own() -> None:
    """A busy partition would make every sample of a quiet one a duplicate."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(partition=1, trigger_offset=1_000))
    assert marks.is_new(sample_factory(partition=0, trigger_offset=1))


def test_a_new_epoch_begins_above_every_offset_of_the_former() -> None:
    """A topic that was made anew starts at offset 0 again."""
    marks = SampleMarks()
    marks.pass_over(sample_factory(epoch=0, trigger_offset=1_000))
    assert marks.is_new(sample_factory(epoch=1, trigger_offset=0))
    marks.pass_over(sample_factory(epoch=1, trigger_offset=0))
    assert not marks.is_new(sample_factory(epoch=0, trigger_offset=2_000))


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
    manifest = marks.as_manifest()
    assert list(manifest) == ["2", "10"]
    assert manifest["10"] == SampleMark(epoch=3, trigger_offset=7, n=1)
    assert SampleMarks(manifest).as_manifest() == manifest
    assert not SampleMarks(manifest).is_new(sample_factory(partition=2, trigger_offset=9, epoch=3, n=1))

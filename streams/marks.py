"""High-water marks: per source partition, the newest sample that was taken; what does not lie above is a duplicate."""

from collections.abc import Mapping

from storage.manifest import SampleMark
from streams.samples import Sample


class SampleMarks:
    """The highest (epoch, trigger offset, n) of each source partition; a partition's samples come in that order."""

    def __init__(self, marks: Mapping[str, SampleMark] | None = None) -> None:
        self._marks = {int(partition): _id(mark) for partition, mark in (marks or {}).items()}

    def is_new(self, sample: Sample) -> bool:
        """Whether the sample lies above its partition's mark."""
        return _id(sample) > self._marks.get(sample.partition, (-1, -1, -1))

    def pass_over(self, sample: Sample) -> None:
        """Raise the mark of the sample's partition to it."""
        assert self.is_new(sample)
        self._marks[sample.partition] = _id(sample)

    def as_manifest(self) -> dict[str, SampleMark]:
        """The marks as a manifest holds them."""
        return {
            str(partition): SampleMark(epoch=epoch, trigger_offset=offset, n=n)
            for partition, (epoch, offset, n) in sorted(self._marks.items())
        }


def _id(sample: Sample | SampleMark) -> tuple[int, int, int]:
    return sample.epoch, sample.trigger_offset, sample.n

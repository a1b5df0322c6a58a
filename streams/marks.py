"""High-water marks: of each log of a source partition the newest sample taken; what does not lie above is a duplicate.

A *log* is what a topic holds under one id; made anew, it is another log. Why one mark for each log is exact:

- The records of one log stand in one order, and every store reads them in it, so all stores make its samples due in the
  order of (trigger offset, n), whatever their own epoch is.
- One owner at a time writes a partition of `samples`, in that order, and its successor goes on at or before the last
  sample that arrived. So when a sample arrives for the first time, all before it of the same log have arrived, but for
  those of users who were forgotten first, which must not come after.
- A store goes from log to log and never back, and sends what it still has of a former log under the id of that one.
  Between logs no order is needed: a store that was made from nothing is in epoch 0 again, and one that held the
  partition before may still send the last samples of the log of then.
"""

import logging
from collections.abc import Mapping
from typing import TypeAlias

from storage.manifest import SampleMark
from streams.forgotten import Due

MAX_FORMER_LOGS = 16
"""Former logs of a partition whose marks are kept, the newest; a sample of an older one would be taken for new."""

Place: TypeAlias = tuple[int, int]
"""(trigger offset, n)."""

_BEFORE_ALL: Place = (-1, -1)

logger = logging.getLogger(__name__)


class SampleMarks:
    """The marks of all source partitions."""

    def __init__(self, marks: Mapping[str, SampleMark] | None = None) -> None:
        self._epochs: dict[int, int] = {}
        """Epoch of each partition's newest sample."""
        self._logs: dict[int, dict[str, Place]] = {}
        """Each partition's marks by topic id; that of its newest sample is the last."""
        for number, mark in (marks or {}).items():
            self._epochs[int(number)] = mark.epoch
            self._logs[int(number)] = mark.former | {mark.topic_id: (mark.trigger_offset, mark.n)}

    def is_new(self, sample: Due) -> bool:
        """Whether the sample lies above its log's mark."""
        logs = self._logs.get(sample.partition, {})
        if "" in logs:
            # Of a mark that an older version wrote nobody knows the log: the epoch tells it from others.
            return (sample.epoch, *_place(sample)) > (self._epochs[sample.partition], *logs[""])
        return _place(sample) > logs.get(sample.topic_id, _BEFORE_ALL)

    def pass_over(self, sample: Due) -> None:
        """Raise the mark of the sample's log to it; that of a log not seen before begins there, with a warning."""
        assert self.is_new(sample)
        logs = self._logs.setdefault(sample.partition, {})
        logs.pop("", None)
        if logs and sample.topic_id not in logs:
            logger.warning(
                "samples of partition %d are of another log now: topic id %s in epoch %d, formerly %s in epoch %d",
                sample.partition,
                sample.topic_id,
                sample.epoch,
                next(reversed(logs)),
                self._epochs[sample.partition],
            )
        logs.pop(sample.topic_id, None)
        logs[sample.topic_id] = _place(sample)
        if len(logs) > MAX_FORMER_LOGS + 1:
            del logs[next(iter(logs))]
        self._epochs[sample.partition] = sample.epoch

    def as_manifest(self) -> dict[str, SampleMark]:
        """The marks as a manifest holds them."""
        return {str(number): self._mark(number) for number in sorted(self._logs)}

    def _mark(self, partition: int) -> SampleMark:
        former = dict(self._logs[partition])
        topic_id, (trigger_offset, n) = former.popitem()
        epoch = self._epochs[partition]
        return SampleMark(topic_id=topic_id, epoch=epoch, trigger_offset=trigger_offset, n=n, former=former)


def _place(sample: Due) -> Place:
    return sample.trigger_offset, sample.n

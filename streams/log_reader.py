"""Reads for the learner: where it begins, how far it reads ahead, and when the next record is known."""

import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from kafka import TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import OffsetOutOfRangeError  # type: ignore[import-untyped]  # as above

from storage.errors import SetupError
from streams.expired import expired_records, tell_expired
from streams.learned_model import LearnedModel
from streams.learner_metrics import LearnerMetrics
from streams.learner_settings import LearnerSettings
from streams.log_merge import LogMerge, Placed

POLL_RECORDS = 1 << 30
"""Records of one poll: all that was fetched, at most 16 MiB of each broker. What a poll leaves behind of a partition
that is paused then, kafka-python 3.0 hands out only once something else was fetched (`Fetcher.fetched_records`)."""
AHEAD_RECORDS = 1_024
"""Records of one partition that are here, beyond which no more of it are read while others are waited for."""
PATIENCE_SECONDS = 10.0
"""How long a partition that has more, but hands out nothing, holds the others back."""

_log = logging.getLogger(__name__)


class Topics(NamedTuple):
    """What a learner reads."""

    samples: str
    items: str


class LogReader:
    """One reader over all partitions of `samples` and of the catalogue.

    The next record is known once each partition has a head (see `LogMerge`) or was read to its end, so that what
    is in the log already is taken in one order. A partition that has more and does not hand it out for
    `PATIENCE_SECONDS` (its broker is away) is left out, with a warning, until it does.
    """

    def __init__(
        self, settings: LearnerSettings, model: LearnedModel, consumer: Any, topics: Topics, metrics: LearnerMetrics
    ) -> None:
        self.settings, self.model, self.consumer, self.topics, self.metrics = settings, model, consumer, topics, metrics
        self._partitions: list[Any] = []
        self._merge = LogMerge((), topics.items)
        self._unread: set[Any] = set()
        """Partitions that have more than was handed out, or of which that is not known yet."""
        self._left_out: set[Any] = set()
        self._waits_since: float | None = None

    def __len__(self) -> int:
        """Records that are here."""
        return len(self._merge)

    @property
    def is_drained(self) -> bool:
        """Whether all that is known to be in the log was taken."""
        return not self._merge and self._unread <= self._left_out

    def seek(self, offsets: Mapping[Any, int]) -> None:
        """Begin at these offsets by `TopicPartition`; where a topic begins if none of its are known.

        Raises `SetupError` where samples expired before they were taken and the settings do not say to skip them.
        """
        topics = (self.topics.samples, self.topics.items)
        self._partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in sorted(self.consumer.partitions_for_topic(topic) or ())
        ]
        self.consumer.assign(self._partitions)
        self._merge, self._unread = LogMerge(self._partitions, self.topics.items), set(self._partitions)
        known = {partition.topic for partition in offsets}
        begun = [partition for partition in self._partitions if partition.topic in known]
        for partition in self._partitions:
            if partition in begun:
                self.consumer.seek(partition, offsets.get(partition, 0))
            else:
                self.consumer.seek_to_beginning(partition)
        self._pass_over_expired({partition: offsets.get(partition, 0) for partition in begun})

    def poll(self, timeout_ms: int) -> bool:
        """Read on; wait so long where nothing is there. Returns whether anything came."""
        self._pause_full()
        try:
            polled = self.consumer.poll(timeout_ms=timeout_ms, max_records=POLL_RECORDS)
        except OffsetOutOfRangeError:
            assigned = self.consumer.assignment()
            if not self._pass_over_expired({each: self.consumer.position(each) for each in assigned}):
                raise
            return False
        for partition, records in polled.items():
            self._merge.put(partition, records)
            self._left_out.discard(partition)
        self._unread = {partition for partition in self._partitions if not self._is_at_end(partition)}
        return bool(polled)

    def take(self) -> Placed | None:
        """The next record; None where it is not known yet, or nothing is left."""
        missing = (self._merge.headless & self._unread) - self._left_out
        if missing and not self._is_patience_over(missing):
            return None
        self._waits_since = None
        return self._merge.take() if self._merge else None

    def _is_patience_over(self, missing: set[Any]) -> bool:
        now = time.monotonic()
        self._waits_since = now if self._waits_since is None else self._waits_since
        if now - self._waits_since < PATIENCE_SECONDS:
            return False
        told = ", ".join(f"{each.topic}[{each.partition}]" for each in sorted(missing))
        _log.warning("nothing is handed out of %s: going on without", told)
        self._left_out |= missing
        return True

    def _is_at_end(self, partition: Any) -> bool:
        end = self.consumer.highwater(partition)
        return end is not None and self.consumer.position(partition) >= end

    def _pause_full(self) -> None:
        """Read no more of partitions of which much is here, so that waiting for one does not fetch the others whole."""
        full = {partition for partition in self._partitions if self._merge.num_of(partition) >= AHEAD_RECORDS}
        paused = set(self.consumer.paused())
        for partition in full - paused:
            self.consumer.pause(partition)
        for partition in paused - full:
            self.consumer.resume(partition)

    def _pass_over_expired(self, next_offsets: Mapping[Any, int]) -> bool:
        """Go on behind records that are gone; False where none are.

        Of the catalogue what is gone was replaced by what is still there; of samples it is lost: a `SetupError`, or
        counted, as the settings say.
        """
        expired = expired_records(self.consumer, next_offsets)
        lost = {partition: gone for partition, gone in expired.items() if partition.topic == self.topics.samples}
        if lost:
            self._tell_lost(lost)
        for partition, gone in expired.items():
            self.consumer.seek(partition, gone.stop)
        return bool(expired)

    def _tell_lost(self, lost: Mapping[Any, range]) -> None:
        told = tell_expired(lost, self.model.created_ms)
        if self.settings.missing_samples == "stop":
            raise SetupError(
                f"{told}: set learner.missing_samples to skip to go on without them, which leaves their records "
                "unlearned for good, or begin anew with another snapshots.url"
            )
        _log.error("%s: going on without them", told)
        self.metrics.missing.inc(sum(map(len, lost.values())))

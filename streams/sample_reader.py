"""Reads `samples` for the learner: where it begins, how far it reads ahead, and when the next sample is known."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from kafka import TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import OffsetOutOfRangeError  # type: ignore[import-untyped]  # as above

from storage.errors import SetupError
from streams.expired import expired_samples, tell_expired
from streams.learned_model import LearnedModel
from streams.learner_metrics import LearnerMetrics
from streams.learner_settings import LearnerSettings
from streams.sample_merge import PlacedSample, SampleMerge

POLL_RECORDS = 1 << 30
"""Samples of one poll: all that was fetched, at most 16 MiB of each broker. What a poll leaves behind of a partition
that is paused then, kafka-python 3.0 hands out only once something else was fetched (`Fetcher.fetched_records`)."""
AHEAD_RECORDS = 1_024
"""Samples of one partition that are here, beyond which no more of it are read while others are waited for."""
PATIENCE_SECONDS = 10.0
"""How long a partition that has more, but hands out nothing, holds the others back."""

_log = logging.getLogger(__name__)


class SampleReader:
    """One reader over all partitions.

    The next sample is known once each partition has a head (see `SampleMerge`) or was read to its end, so that what
    is in the log already is taken in one order. A partition that has more and does not hand it out for
    `PATIENCE_SECONDS` (its broker is away) is left out, with a warning, until it does.
    """

    def __init__(
        self, settings: LearnerSettings, model: LearnedModel, consumer: Any, topic: str, metrics: LearnerMetrics
    ) -> None:
        self.settings, self.model, self.consumer, self.topic, self.metrics = settings, model, consumer, topic, metrics
        self._numbers: list[int] = []
        self._merge = SampleMerge(())
        self._unread: set[int] = set()
        """Partitions that have more than was handed out, or of which that is not known yet."""
        self._left_out: set[int] = set()
        self._waits_since: float | None = None

    def __len__(self) -> int:
        """Samples that are here."""
        return len(self._merge)

    @property
    def is_drained(self) -> bool:
        """Whether all that is known to be in the log was taken."""
        return not self._merge and self._unread <= self._left_out

    def seek(self, offsets: Mapping[int, int]) -> None:
        """Begin at these offsets; a learner that has taken nothing yet (none at all) where the topic begins.

        Raises `SetupError` where samples expired before they were taken and the settings do not say to skip them.
        """
        self._numbers = sorted(self.consumer.partitions_for_topic(self.topic) or ())
        assigned = [TopicPartition(self.topic, number) for number in self._numbers]
        self.consumer.assign(assigned)
        self._merge, self._unread = SampleMerge(self._numbers), set(self._numbers)
        next_offsets = {number: offsets.get(number, 0) for number in self._numbers if offsets}
        for partition in assigned:
            if partition.partition in next_offsets:
                self.consumer.seek(partition, next_offsets[partition.partition])
            else:
                self.consumer.seek_to_beginning(partition)
        self._pass_over_expired(next_offsets)

    def poll(self, timeout_ms: int) -> bool:
        """Read on; wait so long where nothing is there. Returns whether anything came."""
        self._pause_full()
        try:
            polled = self.consumer.poll(timeout_ms=timeout_ms, max_records=POLL_RECORDS)
        except OffsetOutOfRangeError:
            assigned = self.consumer.assignment()
            if not self._pass_over_expired({each.partition: self.consumer.position(each) for each in assigned}):
                raise
            return False
        for records in polled.values():
            self._merge.put(records[0].partition, records)
            self._left_out.discard(records[0].partition)
        self._unread = {number for number in self._numbers if not self._is_at_end(number)}
        return bool(polled)

    def take(self) -> PlacedSample | None:
        """The next sample; None where it is not known yet, or nothing is left."""
        missing = (self._merge.headless & self._unread) - self._left_out
        if missing and not self._is_patience_over(missing):
            return None
        self._waits_since = None
        return self._merge.take() if self._merge else None

    def _is_patience_over(self, missing: set[int]) -> bool:
        now = time.monotonic()
        self._waits_since = now if self._waits_since is None else self._waits_since
        if now - self._waits_since < PATIENCE_SECONDS:
            return False
        told = ", ".join(map(str, sorted(missing)))
        _log.warning("partition %s of %s hands out nothing: going on without it", told, self.topic)
        self._left_out |= missing
        return True

    def _is_at_end(self, number: int) -> bool:
        partition = TopicPartition(self.topic, number)
        end = self.consumer.highwater(partition)
        return end is not None and self.consumer.position(partition) >= end

    def _pause_full(self) -> None:
        """Read no more of partitions of which much is here, so that waiting for one does not fetch the others whole."""
        full = {number for number in self._numbers if self._merge.num_of(number) >= AHEAD_RECORDS}
        paused = {each.partition for each in self.consumer.paused()}
        for number in full - paused:
            self.consumer.pause(TopicPartition(self.topic, number))
        for number in paused - full:
            self.consumer.resume(TopicPartition(self.topic, number))

    def _pass_over_expired(self, next_offsets: Mapping[int, int]) -> bool:
        """Go on behind samples that are gone, or raise `SetupError`, as the settings say; False where none are."""
        expired = expired_samples(self.consumer, self.topic, next_offsets)
        if not expired:
            return False
        told = tell_expired(self.topic, expired, self.model.created_ms)
        if self.settings.missing_samples == "stop":
            raise SetupError(
                f"{told}: set learner.missing_samples to skip to go on without them, which leaves their records "
                "unlearned for good, or begin anew with another snapshots.url"
            )
        _log.error("%s: going on without them", told)
        for number, gone in expired.items():
            self.consumer.seek(TopicPartition(self.topic, number), gone.stop)
            self.metrics.missing.inc(len(gone))
        return True

"""The learner process: consumes `samples`, scores then learns, publishes snapshots; it owns its offsets.

A version is a checkpoint. One turn of the loop:

1. poll samples; drop what the high-water mark of their log has passed (a duplicate after a replay);
2. gather a micro-batch until it holds `batch_events` new events, or its oldest sample waited `linger_seconds`; a user
   who was forgotten in between is forgotten here, once the user's samples before are learned;
3. step: score the new events with the current weights, then learn them; marks and offsets move with the step;
4. every `publish_seconds` learn what is gathered, cut weights, trainer state, offsets and marks at that instant, and
   publish them from a thread.

| if it dies after | then |
|---|---|
| 1, 2 or 3 | it starts from the newest version, seeks to its offsets, learns the same samples from the same weights |
| 4, before the manifest | the version is invisible; as above |
| 4, before the pointer | the pointer names the former version; the number is taken, the next one is above it |
"""

import heapq
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec
from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import OffsetOutOfRangeError  # type: ignore[import-untyped]  # as above

from storage.errors import SetupError
from storage.manifest import Manifest
from streams.batch import MicroBatch
from streams.expired import expired_samples, tell_expired
from streams.forgotten import Due, Forgotten, decode_due
from streams.learned_model import LearnedModel
from streams.learner_metrics import LearnerMetrics
from streams.learner_settings import LearnerSettings

logger = logging.getLogger(__name__)

POLL_RECORDS = 4_096
"""Most samples of one poll."""
POLL_MS = 50
"""How long a poll waits where there is nothing to do."""
GATHER_MS = 5
"""How long a poll waits while a micro-batch is being gathered."""


class _Polled(NamedTuple):
    """A record of `samples`: where it was, and what it held, None where that is nothing of ours."""

    partition: int
    offset: int
    trigger_ms: int
    sample: Due | None


class Learner:
    """One learner over all partitions of `samples`.

    What one poll returns is merged by the Kafka time of the triggers, each partition keeping its own order, so that
    a micro-batch holds what happened at one time rather than one partition's backlog.
    """

    def __init__(
        self,
        settings: LearnerSettings,
        model: LearnedModel,
        consumer: KafkaConsumer,
        topic: str,
        metrics: LearnerMetrics,
    ) -> None:
        self.settings = settings
        self.model = model
        self.consumer = consumer
        self.topic = topic
        self.metrics = metrics
        self.stopping = threading.Event()
        self._queue: deque[_Polled] = deque()
        self._batch = MicroBatch(model.num_events)
        self._waits_since = 0.0
        self._positions = dict(model.offsets)
        self._learned_kafka_ms: Counter[int] = Counter()
        self._has_forgotten = False
        """Whether a user was forgotten whom the newest version may still know."""
        self._published_at = time.monotonic()
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publisher")
        self._publishing: Future[Manifest] | None = None

    def run(self) -> None:
        """Learn until `stopping` is set, then learn what was gathered and publish it."""
        self._seek()
        while not self.stopping.is_set():
            if len(self._queue) < self.model.batch_events:
                self._poll()
            for _ in range(min(len(self._queue), self.model.batch_events)):
                self._take(self._queue.popleft())
            if self._batch.samples and time.monotonic() - self._waits_since >= self.settings.linger_seconds:
                self._learn()
            self._publish_if_due()
        self._learn()
        self._publish_now()
        self._publisher.shutdown()

    def _seek(self) -> None:
        numbers = sorted(self.consumer.partitions_for_topic(self.topic) or ())
        assigned = [TopicPartition(self.topic, number) for number in numbers]
        self.consumer.assign(assigned)
        # A learner that has taken nothing yet begins where the topic does.
        next_offsets = {number: self._positions.get(number, 0) for number in numbers if self._positions}
        for partition in assigned:
            if partition.partition in next_offsets:
                self.consumer.seek(partition, next_offsets[partition.partition])
            else:
                self.consumer.seek_to_beginning(partition)
        self._pass_over_expired(next_offsets)

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
        logger.error("%s: going on without them", told)
        for number, gone in expired.items():
            self.consumer.seek(TopicPartition(self.topic, number), gone.stop)
            self.metrics.missing.inc(len(gone))
        return True

    def _poll(self) -> None:
        """Step 1: queue what the broker has; wait for it only where nothing is queued or gathered."""
        idle = not self._queue and not self._batch.samples
        try:
            polled = self.consumer.poll(timeout_ms=POLL_MS if idle else GATHER_MS, max_records=POLL_RECORDS)
        except OffsetOutOfRangeError:
            assigned = self.consumer.assignment()
            if not self._pass_over_expired({each.partition: self.consumer.position(each) for each in assigned}):
                raise
            return
        lists = [[_decoded(record) for record in records] for records in polled.values()]
        self._queue.extend(heapq.merge(*lists, key=lambda item: item.trigger_ms))
        if idle and not polled:
            self.metrics.behind.set(0)

    def _take(self, polled: _Polled) -> None:
        """Step 1 and 2 for one record."""
        if polled.sample is None:
            self.metrics.malformed.inc()
            logger.warning("no sample in %s[%d] at offset %d", self.topic, polled.partition, polled.offset)
        else:
            self._gather(polled.sample)
        self._positions[polled.partition] = polled.offset + 1
        if self._batch.num_events >= self.model.batch_events:
            self._learn()

    def _gather(self, sample: Due) -> None:
        if not self.model.marks.is_new(sample):
            self.metrics.duplicates.inc()
            return
        if isinstance(sample, Forgotten):
            self._forget(sample)
            return
        if not self._batch.fits(sample):
            self._learn()
        if not self._batch.samples:
            self._waits_since = time.monotonic()
        self.model.marks.pass_over(sample)
        self._batch.add(sample)

    def _forget(self, forgotten: Forgotten) -> None:
        if self._batch.holds(forgotten.user_id):
            self._learn()
        self.model.marks.pass_over(forgotten)
        self.model.forget(forgotten.user_id)
        self.metrics.forgotten.inc()
        self._has_forgotten = True

    def _learn(self) -> None:
        """Step 3."""
        batch, self._batch = self._batch, MicroBatch(self._batch.first_order + self._batch.num_events)
        if not batch.samples:
            return
        self.model.learn(batch)
        self._watch_skips()
        for sample in batch.samples:
            self._learned_kafka_ms.update(sample.kafka_ms)
        self.metrics.steps.inc()
        self.metrics.samples.inc(len(batch.samples))
        self.metrics.events.inc(batch.num_events)
        self.metrics.vocabulary.set(self.model.num_rows)
        self.metrics.behind.set(max(0.0, time.time() - max(batch.samples[-1].kafka_ms, default=0) / 1000))
        self.metrics.unpublished.set(self._learned_kafka_ms.total())
        self.metrics.show(self.model.figures())

    def _watch_skips(self) -> None:
        """Say it, with the array to blame, where publishing stops."""
        skipped = self.model.skipped_in_a_row
        self.metrics.skipped_in_a_row.set(skipped)
        if skipped == self.settings.max_skipped_steps:
            blamed = self.model.learner.first_not_finite() or "none of the weights"
            logger.error("%d steps in a row without a finite loss: publishing stops; not finite: %s", skipped, blamed)

    def _may_publish(self) -> bool:
        is_news = bool(self._learned_kafka_ms) or self._has_forgotten
        return is_news and self.model.skipped_in_a_row < self.settings.max_skipped_steps

    def _publish_if_due(self) -> None:
        if self._publishing is not None and self._publishing.done():
            self._finish_publishing()
        waited = time.monotonic() - self._published_at
        if self._publishing is None and self._may_publish() and waited >= self.settings.publish_seconds:
            self._begin_publishing()

    def _begin_publishing(self) -> None:
        """Step 4: the cut is taken here, with nothing gathered; the writing happens in the thread."""
        self._learn()
        if not self._may_publish():
            return
        learned, self._learned_kafka_ms = self._learned_kafka_ms, Counter()
        self._has_forgotten = False
        write = self.model.cut(self._positions, learned)
        self._publishing = self._publisher.submit(write)
        self._published_at = time.monotonic()

    def _finish_publishing(self) -> None:
        assert self._publishing is not None
        manifest = self._publishing.result()
        self._publishing = None
        self.metrics.versions.inc()
        self.metrics.unpublished.set(self._learned_kafka_ms.total())
        self.metrics.version.set(manifest.version)
        logger.info("published %s/v%d after %d steps", manifest.run_id, manifest.version, manifest.step)

    def _publish_now(self) -> None:
        if self._publishing is not None:
            self._finish_publishing()
        if self._may_publish():
            self._begin_publishing()
        if self._publishing is not None:
            self._finish_publishing()


def _decoded(record: Any) -> _Polled:
    try:
        sample = decode_due(record.value)
    except msgspec.DecodeError:
        return _Polled(record.partition, record.offset, record.timestamp, None)
    kafka_ms = [] if isinstance(sample, Forgotten) else sample.kafka_ms
    return _Polled(record.partition, record.offset, max(kafka_ms, default=record.timestamp), sample)

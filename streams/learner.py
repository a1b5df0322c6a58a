"""The learner process: consumes `samples`, scores then learns, publishes snapshots; it owns its offsets.

A version is a checkpoint. One turn of the loop:

1. read samples and news of the catalogue and take them in the order of `LogMerge`; drop samples that the high-water
   mark of their log has passed (duplicates after a replay); what the catalogue says holds from the next step on;
2. gather a micro-batch until it holds `batch_events` new events, or the log has no more and its oldest sample waited
   `linger_seconds`; a user who was forgotten in between is forgotten here, once the user's samples before are learned;
3. step: score the new events with the current weights, then learn them; marks and offsets move with the step;
4. between two steps, once `publish_seconds` have passed, cut weights, trainer state, offsets and marks at that instant,
   and publish them from a thread.

Where micro-batches end follows from the log alone, but at its very end; when versions are published changes nothing.
So a log that is there is learned bit for bit alike, however often the learner dies in it.

| if it dies after | then |
|---|---|
| 1, 2 or 3 | it starts from the newest version, seeks to its offsets, learns the same samples from the same weights |
| 4, before the manifest | the version is invisible; as above |
| 4, before the pointer | the pointer names the former version; the number is taken, the next one is above it |
"""

import logging
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from storage.manifest import Manifest
from streams.batch import MicroBatch
from streams.busy_time import BusyTime
from streams.descriptions import description_of
from streams.first_learned import FirstLearned
from streams.forgotten import Due, Forgotten
from streams.items import Item, Withdrawn
from streams.learned_model import LearnedModel
from streams.learner_metrics import LearnerMetrics
from streams.learner_settings import LearnerSettings
from streams.log_merge import Placed
from streams.log_reader import LogReader, Topics

logger = logging.getLogger(__name__)

POLL_MS = 50
"""How long a poll waits where there is nothing to do."""
GATHER_MS = 5
"""How long a poll waits while a micro-batch is being gathered."""


class Learner:
    """One learner over all partitions of `samples` and of the catalogue."""

    def __init__(
        self, settings: LearnerSettings, model: LearnedModel, consumer: Any, topics: Topics, metrics: LearnerMetrics
    ) -> None:
        self.settings = settings
        self.model = model
        model.watch_staleness(settings.staleness_every)
        self.consumer = consumer
        self.metrics = metrics
        self.stopping = threading.Event()
        self._reader = LogReader(settings, model, consumer, topics, metrics)
        self._batch = MicroBatch(model.num_events)
        self._waits_since = 0.0
        self._busy = BusyTime()
        self._positions = dict(model.offsets)
        self._first_learned = FirstLearned(lambda: int(time.time() * 1000))
        self._has_news = False
        """Whether something was forgotten or rehearsed since the newest version was cut."""
        self._learned_at = -math.inf
        self._published_at, self._published_step = time.monotonic(), model.num_steps
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publisher")
        self._publishing: Future[Manifest] | None = None

    def run(self) -> None:
        """Learn until `stopping` is set, then learn what was gathered and publish it."""
        if not any(source.topic == self._reader.topics.items for source in self._positions):
            # A catalogue that was made anew says all that there is to say.
            self.model.learner.withdraw_all()
        self._reader.seek(self._positions)
        while not self.stopping.is_set():
            self._read()
            if self._batch.samples and self._reader.is_drained and self._has_lingered():
                self._learn()
            if not self._batch.samples:
                self._rehearse_if_idle()
                self._publish_if_due()
        self._learn()
        self._publish_now()
        self._publisher.shutdown()

    def _read(self) -> None:
        """Step 1 for a micro-batch's worth of samples, as far as they are known."""
        for _ in range(self.model.batch_events):
            placed = self._reader.take()
            if placed is None:
                self._poll()
                return
            self._take(placed)

    def _poll(self) -> None:
        """Read on; wait for the broker only where nothing is here or gathered."""
        is_idle = self._reader.is_drained and not self._batch.samples
        with self._busy.waiting():
            came = self._reader.poll(POLL_MS if is_idle else GATHER_MS)
        if is_idle and not came:
            self.metrics.behind.set(0)

    def _has_lingered(self) -> bool:
        return time.monotonic() - self._waits_since >= self.settings.linger_seconds

    def _take(self, placed: Placed) -> None:
        """Step 1 and 2 for one record."""
        news, source = placed.news, placed.source
        if news is None:
            self.metrics.malformed.inc()
            logger.warning("nothing of ours in %s[%d] at offset %d", source.topic, source.partition, placed.offset)
        elif isinstance(news, Item | Withdrawn):
            self._describe(news)
        else:
            self._gather(news, placed.written_ms)
        self._positions[source] = placed.offset + 1
        if self._batch.num_events >= self.model.batch_events:
            self._learn()

    def _gather(self, sample: Due, written_ms: int) -> None:
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
        self._first_learned.take(sample.kafka_ms, written_ms)

    def _describe(self, news: Item | Withdrawn) -> None:
        if isinstance(news, Withdrawn):
            self.model.learner.withdraw(news.item_id)
        else:
            self._has_news |= news.forgotten
            if not self.model.learner.describe(description_of(news)):
                self.metrics.undescribed.inc()
                logger.warning("what is said of %s is passed over: learn.max_described are described", news.item_id)
        self.metrics.described.set(self.model.learner.num_described)

    def _forget(self, forgotten: Forgotten) -> None:
        if self._batch.holds(forgotten.user_id):
            self._learn()
        self.model.marks.pass_over(forgotten)
        self.model.forget(forgotten.user_id)
        self.metrics.forgotten.inc()
        self._has_news = True

    def _learn(self) -> None:
        """Step 3, and 4 where it is time."""
        batch, self._batch = self._batch, MicroBatch(self._batch.first_order + self._batch.num_events)
        if not batch.samples:
            return
        self.model.learn(batch)
        self._watch_skips()
        self._first_learned.learn()
        self._learned_at = time.monotonic()
        self.metrics.busy_seconds.inc(self._busy.take())
        self.metrics.steps.inc()
        self.metrics.samples.inc(len(batch.samples))
        self.metrics.events.inc(batch.num_events)
        self.metrics.vocabulary.set(self.model.num_rows)
        self.metrics.behind.set(max(0.0, time.time() - max(batch.samples[-1].kafka_ms, default=0) / 1000))
        self.metrics.unpublished.set(self._first_learned.num_records)
        self.metrics.show(self.model.figures())
        self._publish_if_due()

    def _rehearse_if_idle(self) -> None:
        """Learn some of the past again while nothing new is there."""
        is_time = time.monotonic() - self._learned_at < self.settings.rehearse_seconds
        if is_time and self._reader.is_drained and self.model.learner.rehearse():
            self.metrics.rehearsed.inc()
            self._has_news = True
            # Not of what it takes to learn what comes.
            self._busy.take()

    def _watch_skips(self) -> None:
        """Say it, with the array to blame, where publishing stops."""
        skipped = self.model.skipped_in_a_row
        self.metrics.skipped_in_a_row.set(skipped)
        if skipped == self.settings.max_skipped_steps:
            blamed = self.model.learner.first_not_finite() or "none of the weights"
            logger.error("%d steps in a row without a finite loss: publishing stops; not finite: %s", skipped, blamed)

    def _may_publish(self) -> bool:
        is_news = self._first_learned.num_records > 0 or self._has_news
        return is_news and self.model.skipped_in_a_row < self.settings.max_skipped_steps

    def _publish_if_due(self) -> None:
        """Step 4; nothing may be gathered."""
        if self._publishing is not None and (self._publishing.done() or self._is_due_by_steps()):
            self._finish_publishing()
        if self._publishing is None and self._may_publish() and self._is_due():
            self._begin_publishing()

    def _is_due_by_steps(self) -> bool:
        every = self.settings.publish_steps
        return every > 0 and self.model.num_steps >= self._published_step + every

    def _is_due(self) -> bool:
        if self.settings.publish_steps:
            return self._is_due_by_steps()
        return time.monotonic() - self._published_at >= self.settings.publish_seconds

    def _begin_publishing(self) -> None:
        """The cut is taken here; the writing happens in the thread."""
        assert not self._batch.samples
        self._has_news = False
        write = self.model.cut(self._positions, self._first_learned.hand_over())
        self._publishing = self._publisher.submit(write)
        self._published_at, self._published_step = time.monotonic(), self.model.num_steps

    def _finish_publishing(self) -> None:
        assert self._publishing is not None
        manifest = self._publishing.result()
        self._publishing = None
        self.metrics.unpublished.set(self._first_learned.num_records)
        if manifest.held_back:
            self.metrics.held_back.inc()
            logger.error("%s/v%d is held back: %s", manifest.run_id, manifest.version, manifest.held_back)
            return
        self.metrics.versions.inc()
        self.metrics.version.set(manifest.version)
        logger.info("published %s/v%d after %d steps", manifest.run_id, manifest.version, manifest.step)

    def _publish_now(self) -> None:
        if self._publishing is not None:
            self._finish_publishing()
        if self._may_publish():
            self._begin_publishing()
        if self._publishing is not None:
            self._finish_publishing()

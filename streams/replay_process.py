"""The process `headwater replay`: a data set goes to Kafka, its catalogue first, broken records slipped in."""

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from storage.errors import SetupError
from streams.broken import BrokenRecord, broken_records
from streams.dataset import Dataset
from streams.delivery import connected_producer
from streams.figures import scrape
from streams.items import Item, encode_item
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.producer import EventProducer
from streams.reachability import no_answer
from streams.replay import LearnerPosition, Pace, replay
from streams.topics import TopicSettings, existing_topic

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
"""How often the progress file is written."""
LINE_SECONDS = 5.0
"""How often a line is logged."""
BEHIND = "headwater_learner_behind_seconds"
LEARNED = "headwater_events_learned_total"
BUSY = "headwater_learner_busy_seconds_total"


def run_replay(
    dataset: Dataset,
    kafka: KafkaSettings,
    topics: TopicSettings,
    *,
    rate: float | None,
    learner_url: str,
    broken: int,
    progress: Path | None,
) -> int:
    """Send the whole data set, at `rate` rows a second or at the learner's pace; returns 0, raises `SetupError`."""
    if rate is not None and not rate > 0:
        raise ValueError(f"rate must be > 0 rows a second, got {rate}; without it the learner sets the pace")
    if broken < 0:
        raise ValueError(f"broken must be >= 0, got {broken}")
    existing_topic(kafka, topics.events)
    try:
        publish_items(kafka, topics, dataset.items)
        with connected_producer(kafka, topics.events) as producer:
            slip = BrokenSlipper(kafka, topics, broken, len(dataset))
            report = Progress(progress, producer, len(dataset), slip)
            _send(dataset, producer, report, rate, learner_url)
            slip.close()
            producer.flush()
        report.write(len(dataset), done=True)
    except KafkaError as error:
        raise no_answer(kafka, error) from error
    failed = producer.counts.failed
    if failed:
        raise SetupError(f"{failed} of {producer.counts.sent} events were not delivered; is the broker still there?")
    return 0


def _send(dataset: Dataset, producer: EventProducer, report: "Progress", rate: float | None, learner_url: str) -> None:
    if rate is None:
        replay(dataset, producer, learner=lambda: learner_position(learner_url), before_row=report.before_row)
    else:
        pace = Pace(rate=rate, least=rate, most=rate)
        replay(dataset, producer, learner=lambda: LearnerPosition(0, 0, 0), before_row=report.before_row, pace=pace)


def publish_items(kafka: KafkaSettings, topics: TopicSettings, items: Mapping[str, Item]) -> None:
    """Send the catalogue to the topic `items`."""
    if not items:
        return
    producer = KafkaProducer(**client_options(kafka), linger_ms=5)
    for item_id, item in items.items():
        producer.send(topics.items, key=item_id.encode(), value=encode_item(item))
    producer.flush(timeout=60)
    producer.close()


def learner_position(url: str) -> LearnerPosition | None:
    """How far the learner is, from its metrics; None while it does not answer.

    Raises `SetupError` where what answers is no learner.
    """
    scraped = scrape(url)
    if not scraped:
        return None
    if LEARNED not in scraped:
        raise SetupError(f"{url} has no {LEARNED}: set --learner-url to the metrics of headwater learn")
    return LearnerPosition(scraped.value(LEARNED), scraped.value(BEHIND), scraped.value(BUSY))


class BrokenSlipper:
    """Sends broken records, evenly spread over the rows."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings, count: int, num_rows: int) -> None:
        self._topic = topics.events
        self._records = iter(broken_records(int(time.time() * 1000), count))
        self._due = Counter(int((number + 0.5) * num_rows / count) for number in range(count))
        self._producer = KafkaProducer(**client_options(kafka)) if count else None
        self.num_sent = 0

    def before_row(self, row: int) -> None:
        """Send those that are due before this row."""
        for _ in range(self._due.get(row, 0)):
            self._send(next(self._records))

    def close(self) -> None:
        """Wait until all are delivered."""
        if self._producer is not None:
            self._producer.flush(timeout=60)
            self._producer.close()

    def _send(self, record: BrokenRecord) -> None:
        assert self._producer is not None
        key, value, _ = record
        self._producer.send(self._topic, key=key, value=value)
        self.num_sent += 1


class Progress:
    """Tells how far it is: a line in the log now and then, and a small JSON file that is kept up to date."""

    def __init__(self, path: Path | None, producer: EventProducer, total: int, slip: BrokenSlipper) -> None:
        self.path = path
        self.producer = producer
        self.total = total
        self.slip = slip
        self._written = 0.0
        self._said = time.monotonic()

    def before_row(self, row: int) -> None:
        """Slip in what is due, and write the file now and then."""
        self.slip.before_row(row)
        if time.monotonic() - self._written >= PROGRESS_SECONDS:
            self.write(row)
        if time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            logger.info("%d of %d rows sent", row, self.total)

    def write(self, rows: int, done: bool = False) -> None:
        """Write the file, whole or not at all: rows and broken records sent, rows in all, whether it is done."""
        self._written = time.monotonic()
        if self.path is None:
            return
        counts = self.producer.counts
        figures: dict[str, Any] = {
            "rows": rows,
            "total": self.total,
            "events": counts.delivered,
            "broken": self.slip.num_sent,
            "done": done,
        }
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(figures))
        unfinished.replace(self.path)

"""The process `headwater learn`: connects, goes on from the newest version, learns until it is told to stop."""

import logging
import signal
from types import FrameType

from kafka import KafkaConsumer  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaError, OffsetOutOfRangeError  # type: ignore[import-untyped]  # as above

from model.settings import LearnSettings, ModelSettings
from storage.errors import SetupError
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.announcements import connect_announcer
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.learned_model import LearnedModel
from streams.learner import Learner
from streams.learner_metrics import LearnerMetrics
from streams.learner_settings import LearnerSettings
from streams.log_reader import Topics
from streams.rank_log import RankLog
from streams.reachability import no_answer
from streams.topics import MAX_SAMPLE_BYTES, TopicSettings, existing_topic

logger = logging.getLogger(__name__)

FETCH_BYTES = 16 * 1024 * 1024
"""Most bytes of one fetch."""


def run_learner(
    kafka: KafkaSettings,
    topics: TopicSettings,
    model: ModelSettings,
    learn: LearnSettings,
    learner: LearnerSettings,
    snapshots: SnapshotSettings,
) -> int:
    """Learn until SIGTERM or SIGINT, publish what was learned, return 0; raises `SetupError`."""
    read = Topics(topics.samples, topics.items)
    topic_ids = {topic: existing_topic(kafka, topic).topic_id for topic in read}
    metrics = LearnerMetrics()
    metrics.serve(learner.metrics_host, learner.metrics_port)
    opened = LearnedModel.open(SnapshotStore(snapshots), model, learn, topic_ids)
    logger.info("going on from %s/v%d with %d items", opened.run_id, opened.version, opened.num_rows)
    if learner.ranks is not None:
        opened.rank_log = RankLog(learner.ranks, opened.num_events)
    opened.announcer = connect_announcer(kafka, topics.snapshots, snapshots.model)
    process = Learner(learner, opened, connect_consumer(kafka), read, metrics)
    _stop_on_signals(process)
    try:
        process.run()
    except OffsetOutOfRangeError as error:
        raise SetupError(
            f"{topics.samples} ends before what the newest version has learned ({error}): was it cut? "
            "restore it, or begin anew with another snapshots.url"
        ) from error
    finally:
        process.consumer.close()
        if opened.announcer is not None:
            opened.announcer.close()
        if opened.rank_log is not None:
            opened.rank_log.close()
    return 0


def connect_consumer(kafka: KafkaSettings) -> KafkaConsumer:
    """A consumer for the learner, which is told where to read; raises `SetupError` where no broker answers."""
    try:
        return KafkaConsumer(
            **client_options(kafka),
            bootstrap_timeout_ms=int(kafka.connect_seconds * 1000),
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=MAX_SAMPLE_BYTES,
            fetch_max_bytes=FETCH_BYTES,
        )
    except KafkaError as error:
        raise no_answer(kafka, error) from error


def _stop_on_signals(process: Learner) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        process.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

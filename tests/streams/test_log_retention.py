"""Retention of the log against the age of checkpoints."""

import asyncio
import logging
from functools import partial
from typing import Any

import pytest

from storage.errors import SetupError
from storage.store_settings import StoreSettings
from streams.kafka_settings import KafkaSettings
from streams.log_retention import RetentionWatch, check_retention, retention_seconds
from streams.topics import TopicSettings, create_topics
from streams.worker import WorkerSettings, run_worker
from tests.brokers import ApacheKafka, Broker, fresh_topics


def test_retention_is_asked_of_the_broker(broker: Broker) -> None:
    """What the settings say is only how the topic is made; it may be changed, or be made by others."""
    kafka, topics = fresh_topics(broker)
    expected = topics.events_retention_days * 86_400 if isinstance(broker, ApacheKafka) else None
    assert retention_seconds(kafka, topics.events) == expected
    assert retention_seconds(kafka, "absent") is None


def test_a_worker_whose_log_forgets_before_it_checkpoints_does_not_start(broker: Broker, tmp_path: Any) -> None:
    """The state of a lost disk could never be made again, which shows only on the day it is lost."""
    if not isinstance(broker, ApacheKafka):
        pytest.skip("the embedded broker tells no retention")
    kafka, topics = fresh_topics(broker)
    short = TopicSettings(prefix=f"{topics.prefix}short-", events_retention_days=30 / 86_400)
    create_topics(kafka, short)
    with pytest.raises(SetupError, match=r"keeps records for 30 s .*checkpoint_seconds is 60: .*lengthen"):
        run_worker(kafka, short, StoreSettings(folder=tmp_path), WorkerSettings())


@pytest.mark.parametrize("retention", [None, 61.0])
def test_a_log_that_is_kept_long_enough_is_accepted(retention: float | None) -> None:
    check_retention(retention, topic="events", checkpoint_seconds=60.0)


def test_a_watch_warns_of_old_checkpoints_and_of_a_shorter_retention(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Retention is shortened, or shipping fails, while workers run."""
    said: list[float | SetupError | None] = [100.0, 100.0, 30.0, None, SetupError("no answer")]

    def answer(*_: object) -> float | None:
        found = said.pop(0)
        if isinstance(found, SetupError):
            raise found
        return found

    monkeypatch.setattr("streams.log_retention.retention_seconds", answer)
    monkeypatch.setattr("streams.log_retention.LOOK_SECONDS", 0.0)
    watch = RetentionWatch(KafkaSettings(), "events", 40.0)
    ages: list[list[float]] = [[50.0, 3.0], [51.0, 3.0], [3.0], [1e9], []]
    with caplog.at_level(logging.WARNING):
        for found in ages:
            asyncio.run(watch.look(partial(list, found)))
    assert said == []
    warned = [record.getMessage().partition(" is 51")[0] for record in caplog.records]
    assert warned[0] == "the oldest newest checkpoint of events"
    assert warned[1].startswith("events keeps records for 30 s")
    assert warned[2:] == ["no answer"]
    monkeypatch.setattr("streams.log_retention.LOOK_SECONDS", 1e9)
    asyncio.run(watch.look(list))

"""What a standby follows, and where it refuses to begin."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.errors import HeadwaterError, LogHoleError, SetupError
from storage.store_settings import StoreSettings
from streams.chunks import Bounds
from streams.kafka_settings import KafkaSettings
from streams.standby import Standby
from streams.topics import TopicSettings, admin_client, create_topics
from streams.worker_settings import WorkerSettings
from tests.brokers import ApacheKafka, Broker, fresh_topics
from tests.streams.test_worker import make_events, send_events


def follow(standby: Callable[[], Standby], act: Callable[[Standby], Any], done: Callable[[Standby], object]) -> Standby:
    """Run a standby, act once it is `done` the first time, end it once it is done again."""

    async def run() -> Standby:
        made = standby()
        running = asyncio.create_task(made.run())
        for _ in range(2):
            for _ in range(600):
                if done(made) or running.done():
                    break
                await asyncio.sleep(0.05)
            assert done(made)
            await asyncio.to_thread(act, made)
        made.take_over()
        assert await running is True
        return made

    return asyncio.run(run())


def applied(standby: Standby) -> dict[int, tuple[int, int]]:
    return {number: (store.epoch, store.applied) for number, store in standby.partitions.stores.items()}


def test_a_topic_made_anew_is_followed_as_a_new_epoch(broker: Broker, tmp_path: Path) -> None:
    """Its offsets begin again: a standby that goes on at the old ones would miss its first records for ever."""
    kafka, topics = fresh_topics(broker, num_partitions=1)
    send_events(kafka, topics, make_events(1, 40))
    sent: list[int] = []

    def make_anew(standby: Standby) -> None:
        if not sent:
            sent.append(1)
            with admin_client(kafka) as admin:
                admin.delete_topics([topics.events])
            if isinstance(broker, ApacheKafka):
                wait_gone(kafka, topics)
            create_topics(kafka, topics)
            send_events(kafka, topics, make_events(2, 30))

    wanted = {0: {0: (0, 39)}, 1: {0: (1, 29)}}
    store = StoreSettings(folder=tmp_path / "state")
    follow(
        lambda: Standby(kafka, topics, store, WorkerSettings()),
        make_anew,
        lambda standby: applied(standby) == wanted[len(sent)],
    )


def wait_gone(kafka: KafkaSettings, topics: TopicSettings) -> None:
    for _ in range(100):
        with admin_client(kafka) as admin:
            if admin.describe_topics([topics.events])[0]["error_code"] != 0:
                return
    pytest.fail("the topic is still there")


def test_it_takes_over_when_asked_and_ends_when_asked(tansu: Broker, tmp_path: Path) -> None:
    kafka, topics = fresh_topics(tansu, num_partitions=1)
    send_events(kafka, topics, make_events(1, 40))
    store = StoreSettings(folder=tmp_path / "state")

    async def run() -> bool:
        standby = Standby(kafka, topics, store, WorkerSettings())
        standby.ending.request()
        return await standby.run()

    assert asyncio.run(run()) is False


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., HeadwaterError]:
    """Places a standby's partition in a log of these bounds and returns why it refuses."""
    described = type("Described", (), {"topic_id": "t1", "num_partitions": 1})()
    monkeypatch.setattr("streams.partitions.describe_topic", lambda *_: described)

    def place(earliest: int, end: int, **worker: Any) -> HeadwaterError:
        async def run() -> None:
            store = StoreSettings(folder=tmp_path / "state")
            standby = Standby(KafkaSettings(), TopicSettings(), store, WorkerSettings(**worker))
            bounds = {0: Bounds(earliest=earliest, end=end, committed=0, refused=False)}
            try:
                await standby.partitions.place(bounds)
                standby._check_start(bounds)
            finally:
                await standby.partitions.close()

        with pytest.raises(HeadwaterError) as caught:
            asyncio.run(run())
        return caught.value

    return place


def test_it_does_not_begin_where_its_owner_cannot_have_begun(refused: Callable[..., HeadwaterError]) -> None:
    """Its sequences would be others than the owner's, and its samples, under the same ids, too."""
    latest = refused(0, 10, start="latest")
    assert isinstance(latest, SetupError)
    assert "set worker.checkpoint_url for both" in str(latest)
    expired = refused(5, 10)
    assert isinstance(expired, LogHoleError)

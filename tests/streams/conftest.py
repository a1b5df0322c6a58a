"""Fixtures of the tests of streams."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from storage.store_settings import StoreSettings
from streams.faults import Ending
from streams.kafka_settings import KafkaSettings
from streams.partitions import Partitions
from streams.topics import TopicDescription, TopicSettings
from streams.worker_settings import WorkerSettings
from tests.streams.learner_bench import Bench, BenchFactory, Clock
from tests.streams.placing import IdleSender


@pytest.fixture
def bench_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchFactory:
    """Makes benches, each with a store of its own."""
    clock = Clock()
    monkeypatch.setattr("streams.learner.time", clock)
    folders = (tmp_path / str(number) for number in count())
    return lambda log: Bench(next(folders), log, clock)


@pytest.fixture
def partitions_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Partitions]:
    """Makes the partitions of a worker, all in one state folder."""

    def make(*, topic_id: str = "t1", sender: Any = IdleSender, **worker: Any) -> Partitions:
        described = TopicDescription(topic_id=topic_id, num_partitions=2)
        monkeypatch.setattr("streams.partitions.describe_topic", lambda *_: described)
        return Partitions(
            kafka=KafkaSettings(),
            topics=TopicSettings(num_partitions=2),
            store=StoreSettings(folder=tmp_path / "state"),
            worker=WorkerSettings(**worker),
            new_sender=sender,
            ending=Ending(),
        )

    return make

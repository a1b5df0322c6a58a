"""The replay against a real broker: rows, catalogue, broken records, progress."""

import json
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from deploy.broker import free_port
from storage.errors import SetupError
from streams.broken import broken_records
from streams.dataset import Dataset
from streams.events import Action, Impression, InvalidEventError, decode_event
from streams.items import Item, decode_item
from streams.kafka_settings import KafkaSettings
from streams.learner_metrics import LearnerMetrics
from streams.plain_log import read_topic
from streams.replay import LearnerPosition
from streams.replay_process import learner_position, run_replay
from streams.topics import TopicSettings
from tests.brokers import Broker, fresh_topics

ROWS = 40
BROKEN = 14
ACTIONS = frozenset({"like"})


def dataset_factory(*, with_items: bool = True) -> Dataset:
    return Dataset(
        name="made",
        user_ids=[f"u{row % 7}" for row in range(ROWS)],
        item_ids=[f"i{row % 5}" for row in range(ROWS)],
        ts_ms=np.arange(ROWS, dtype=np.int64),
        actions=np.ones(ROWS, np.int64),
        values=np.full(ROWS, np.nan, np.float32),
        action_names=("like",),
        items={f"i{n}": Item(item_id=f"i{n}", title=f"Title {n}") for n in range(5)} if with_items else {},
    )


def test_everything_is_sent_once_and_the_progress_says_so(tansu: Broker, tmp_path: Path) -> None:
    """The demo waits for `done`, and counts on 100,000 ratings and 25 broken records."""
    kafka, topics = fresh_topics(tansu)
    progress = tmp_path / "progress.json"
    code = run_replay(dataset_factory(), kafka, topics, rate=2_000.0, learner_url="", broken=BROKEN, progress=progress)
    assert code == 0
    kinds, causes = [], []
    for record in read_topic(kafka, topics.events):
        try:
            kinds.append(type(decode_event(record.key, record.value, record.timestamp, ACTIONS)))
        except InvalidEventError as error:
            causes.append(error.cause)
    assert (kinds.count(Impression), kinds.count(Action)) == (ROWS, ROWS)
    assert sorted(causes) == sorted(cause for _, _, cause in broken_records(0, BROKEN))
    items = [decode_item(record.key, record.value) for record in read_topic(kafka, topics.items)]
    assert {item.item_id: item.title for item in items} == {f"i{n}": f"Title {n}" for n in range(5)}
    sent = {"rows": ROWS, "total": ROWS, "events": 2 * ROWS, "broken": BROKEN, "done": True}
    assert json.loads(progress.read_text()) == sent


def test_the_learner_sets_the_pace_where_no_rate_is_given(tansu: Broker, tmp_path: Path) -> None:
    """A learner that cannot be asked would be drowned, or the replay would never end."""
    kafka, topics = fresh_topics(tansu)
    metrics, port = LearnerMetrics(), free_port()
    metrics.serve("127.0.0.1", port)
    url = f"http://127.0.0.1:{port}/metrics"
    assert learner_position(url) == LearnerPosition(0, 0, 0)
    assert learner_position(f"http://127.0.0.1:{free_port()}/metrics") is None
    dataset = dataset_factory(with_items=False)
    assert run_replay(dataset, kafka, topics, rate=None, learner_url=url, broken=0, progress=None) == 0
    assert sum(1 for _ in read_topic(kafka, topics.events)) == 2 * ROWS


def test_a_broker_that_is_not_there_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A stack trace of the client says nothing to who mistyped an address."""
    caplog.set_level("CRITICAL", "kafka")
    address = f"127.0.0.1:{free_port()}"
    kafka = KafkaSettings(bootstrap_servers=(address,), connect_seconds=0.5)
    dataset = dataset_factory(with_items=False)
    with pytest.raises(SetupError, match=f"no answer from Kafka at {address}"):
        run_replay(dataset, kafka, TopicSettings(), rate=1.0, learner_url="", broken=0, progress=None)
    with pytest.raises(SetupError, match=f"no answer from Kafka at {address}"):
        list(read_topic(kafka, "events"))


def test_a_topic_that_is_not_there_is_named(tansu: Broker) -> None:
    """Reading it would wait for ever."""
    kafka, _ = fresh_topics(tansu)
    with pytest.raises(SetupError, match="topic nowhere does not exist; create it with: headwater topics create"):
        list(read_topic(kafka, "nowhere"))


def test_metrics_of_another_process_are_no_pace() -> None:
    """The replay would crawl at its trial rate, or end with a traceback."""
    port, registry = free_port(), CollectorRegistry()
    Gauge("other", "Not a learner", registry=registry)
    start_http_server(port, addr="127.0.0.1", registry=registry)
    with pytest.raises(SetupError, match=r"has no headwater_events_learned_total: set --learner-url"):
        learner_position(f"http://127.0.0.1:{port}/metrics")

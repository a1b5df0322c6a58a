from collections import defaultdict

import numpy as np

from streams.dataset import Dataset
from streams.events import Impression, decode_event
from streams.importing import import_dataset
from streams.items import Item, decode_item
from streams.plain_log import read_topic
from streams.producer import DeliveryCounts
from tests.brokers import Broker, fresh_topics


def made_dataset(num_rows: int) -> Dataset:
    """Rows of which every third has no action."""
    return Dataset(
        name="made",
        user_ids=[f"u{row % 11}" for row in range(num_rows)],
        item_ids=[f"i{row % 5}" for row in range(num_rows)],
        ts_ms=np.arange(num_rows) * 1_000,
        actions=np.arange(num_rows) % 3,
        values=np.full(num_rows, np.nan, dtype=np.float32),
        action_names=("rate", "like"),
        items={"i0": Item(item_id="i0", title="Zero")},
    )


def test_a_data_set_arrives_whole_and_in_order(broker: Broker) -> None:
    """An importer that loses or turns around rows teaches another history."""
    kafka, topics = fresh_topics(broker)
    dataset = made_dataset(3_000)
    assert import_dataset(dataset, kafka, topics) == DeliveryCounts(sent=5_000, delivered=5_000, failed=0)
    times: dict[str, list[int]] = defaultdict(list)
    ids = set()
    for record in read_topic(kafka, topics.events):
        event = decode_event(record.key, record.value, record.timestamp, frozenset(dataset.action_names))
        ids.add(event.event_id)
        if isinstance(event, Impression):
            times[event.user_id].append(event.ts_ms)
    assert len(ids) == 5_000
    assert {user: len(each) for user, each in times.items()} == {f"u{n}": len(range(n, 3_000, 11)) for n in range(11)}
    assert all(each == sorted(each) for each in times.values())
    (record,) = read_topic(kafka, topics.items)
    assert decode_item(record.key, record.value).title == "Zero"

"""A data set sent whole, as fast as the brokers take it: what `headwater import` does."""

import itertools

from kafka.errors import KafkaError  # type: ignore[import-untyped]  # kafka-python ships no types

from streams.bulk import send_many
from streams.dataset import Dataset
from streams.events import Encoding
from streams.kafka_settings import KafkaSettings
from streams.producer import DeliveryCounts
from streams.reachability import no_answer
from streams.replay import row_events
from streams.replay_process import publish_items
from streams.topics import TopicSettings, existing_topic


def import_dataset(
    dataset: Dataset, kafka: KafkaSettings, topics: TopicSettings, encoding: Encoding = "json"
) -> DeliveryCounts:
    """Send the catalogue, then every row's events in order; an event's id names its row, so that twice is as once.

    Raises `SetupError` where the brokers do not take all of it.
    """
    existing_topic(kafka, topics.events)
    try:
        publish_items(kafka, topics, dataset.items)
    except KafkaError as error:
        raise no_answer(kafka, error) from error
    events = itertools.chain.from_iterable(row_events(dataset, row) for row in range(len(dataset)))
    return send_many(kafka, topics.events, events, encoding=encoding)

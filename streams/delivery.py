"""A producer of events as the settings say; one event, or one item, delivered."""

from collections.abc import Callable
from concurrent.futures import Future

from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from streams.items import Item, decode_item, encode_item
from streams.kafka_clients import client_options, security_options
from streams.kafka_settings import KafkaSettings
from streams.producer import Delivery, EventProducer
from streams.reachability import no_answer


def connected_producer(kafka: KafkaSettings, topic: str) -> EventProducer:
    """A producer of events; raises `SetupError` where a certificate cannot be read, and `KafkaError`."""
    return EventProducer(
        kafka.bootstrap_servers,
        topic=topic,
        security=security_options(kafka),
        connect_seconds=kafka.connect_seconds,
    )


def deliver(kafka: KafkaSettings, topic: str, send: Callable[[EventProducer], Future[Delivery]]) -> Delivery:
    """Send what `send` does, wait for the brokers, and tell where they put it; raises `SetupError`, and as `send`."""
    try:
        with connected_producer(kafka, topic) as producer:
            return send(producer).result(timeout=kafka.connect_seconds)
    except (KafkaError, TimeoutError) as error:
        raise no_answer(kafka, error) from error


def deliver_item(kafka: KafkaSettings, topic: str, item: Item) -> Delivery:
    """Send what the catalogue says of an item and wait for the brokers; raises `ValueError` and `SetupError`."""
    key, value = item.item_id.encode("utf-8", "surrogatepass"), encode_item(item)
    try:
        decode_item(key, value)
        producer = KafkaProducer(**client_options(kafka))
        try:
            placed = producer.send(topic, key=key, value=value).get(timeout=kafka.connect_seconds)
        finally:
            producer.close(timeout=kafka.connect_seconds)
    except KafkaError as error:
        raise no_answer(kafka, error) from error
    return Delivery(partition=placed.partition, offset=placed.offset)

"""A producer of events as the settings say, and one event delivered with it."""

from collections.abc import Callable
from concurrent.futures import Future

from kafka.errors import KafkaError  # type: ignore[import-untyped]  # kafka-python ships no types

from streams.kafka_clients import security_options
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

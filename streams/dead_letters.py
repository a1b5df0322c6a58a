"""Dead letters: records that are no valid events, with why and where they came from, in the topic `events.dlq`.

The headers named `__streams.errors.*` are Kafka's own for this purpose (KIP-1034), all as UTF-8 text.
"""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from storage.changes import Refused
from storage.errors import SetupError
from streams.events import InvalidEventError
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.plain_log import read_topic
from streams.topics import TopicSettings, existing_topic

MAX_LIST_SECONDS = 30.0
"""Where dead letters go on coming in, the list ends after this."""

MAX_HEAD_BYTES = 64 * 1024
"""How much of a refused record's value is kept."""
MAX_KEY_BYTES = 1_024
"""How much of a refused record's key is kept."""
MAX_MESSAGE_LENGTH = 500
"""How much is kept of why a record was refused."""

_EXCEPTION = "__streams.errors.exception"
_STACKTRACE = "__streams.errors.stacktrace"
_MESSAGE = "__streams.errors.message"
_TOPIC = "__streams.errors.topic"
_PARTITION = "__streams.errors.partition"
_OFFSET = "__streams.errors.offset"
_CAUSE = "headwater.cause"
_SIZE = "headwater.size"
_SHA256 = "headwater.sha256"
_KAFKA_MS = "headwater.kafka_ms"
_ID = "headwater.id"
_NUMBERS = (_PARTITION, _OFFSET, _SIZE, _KAFKA_MS)
HEADERS = {
    _EXCEPTION: "class of the error",
    _STACKTRACE: "class and message: a record is refused by a rule, not by a place in the code",
    _MESSAGE: "which rule was broken, and by what",
    _TOPIC: "topic of the refused record",
    _PARTITION: "its partition, in digits",
    _OFFSET: "its offset, in digits",
    _CAUSE: "kind of the error, one word",
    _SIZE: "bytes of its whole value, in digits",
    _SHA256: "of its whole value, in hexadecimal digits",
    _KAFKA_MS: "its Kafka time, milliseconds since 1970, in digits",
    _ID: "equal where one dead letter was sent twice",
}
"""Headers of a dead letter and what they say."""


class DeadLetterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter as read from its topic."""

    cause: str
    message: str
    topic: str
    """Where the record came from."""
    partition: int
    offset: int
    kafka_ms: int
    """The record's Kafka time."""
    size: int
    """Bytes of the whole value."""
    sha256: str
    """Of the whole value."""
    key: bytes
    """First bytes of the record's key."""
    head: bytes
    """First bytes of the record's value."""
    letter_id: str
    """Topic id, partition and offset: equal where one dead letter was sent twice."""


def refuse(record: Any, error: InvalidEventError) -> Refused:
    """What is kept of a Kafka record that is no valid event."""
    value = record.value or b""
    return Refused(
        offset=record.offset,
        kafka_ms=record.timestamp,
        cause=error.cause,
        message=str(error)[:MAX_MESSAGE_LENGTH],
        key=(record.key or b"")[:MAX_KEY_BYTES],
        head=value[:MAX_HEAD_BYTES],
        size=len(value),
        sha256=hashlib.sha256(value).hexdigest(),
    )


def source_headers(topic: str, partition: int, refused: Refused, log_id: str) -> list[tuple[str, bytes]]:
    """Headers of a dead letter; `log_id` is the topic's id, which tells apart topics and lives of a topic."""
    exception = f"{InvalidEventError.__module__}.{InvalidEventError.__qualname__}"
    headers = {
        _EXCEPTION: exception,
        _STACKTRACE: f"{exception}: {refused.message}",
        _MESSAGE: refused.message,
        _TOPIC: topic,
        _PARTITION: partition,
        _OFFSET: refused.offset,
        _CAUSE: refused.cause,
        _SIZE: refused.size,
        _SHA256: refused.sha256,
        _KAFKA_MS: refused.kafka_ms,
        _ID: f"{log_id}-{partition}-{refused.offset}",
    }
    return [(name, str(value).encode("utf-8", "backslashreplace")) for name, value in headers.items()]


def read_dead_letter(record: Any) -> DeadLetterRecord | None:
    """What a record of the dead-letter topic says; None for one that Headwater did not write."""
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None}
    if not {_MESSAGE, _TOPIC, _CAUSE, _SHA256, _ID, *_NUMBERS} <= headers.keys():
        return None
    try:
        partition, offset, size, kafka_ms = (int(headers[name]) for name in _NUMBERS)
    except ValueError:
        return None
    return DeadLetterRecord(
        cause=headers[_CAUSE],
        message=headers[_MESSAGE],
        topic=headers[_TOPIC],
        partition=partition,
        offset=offset,
        kafka_ms=kafka_ms,
        size=size,
        sha256=headers[_SHA256],
        key=record.key or b"",
        head=record.value or b"",
        letter_id=headers[_ID],
    )


def read_dead_letters(kafka: KafkaSettings, topics: TopicSettings) -> Iterator[DeadLetterRecord]:
    """All dead letters of all topics, each once; raises `SetupError` where they cannot be read."""
    seen: set[str] = set()
    for record in read_topic(kafka, topics.dead_letters):
        letter = read_dead_letter(record)
        if letter is not None and letter.letter_id not in seen:
            seen.add(letter.letter_id)
            yield letter


def list_dead_letters(
    kafka: KafkaSettings, topics: TopicSettings, limit: int, *, wait_seconds: float = 2.0
) -> list[DeadLetterRecord]:
    """The newest dead letters, oldest first, each once, at most `limit`.

    Ends where no further record came for `wait_seconds`. Raises `SetupError` where Kafka does not answer or the
    topic does not exist.
    """
    if limit < 1:
        raise ValueError(f"limit must be >= 1, got {limit}")
    topic = existing_topic(kafka, topics.dead_letters)
    partitions = [TopicPartition(topics.dead_letters, number) for number in range(topic.num_partitions)]
    try:
        consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False)
        try:
            letters = list(_newest(consumer, partitions, limit, wait_seconds))
        finally:
            consumer.close()
    except KafkaError as error:
        raise SetupError(f"{topics.dead_letters} cannot be read: {' '.join(str(error).split())}") from error
    unique = {letter.letter_id: letter for letter in letters}
    return sorted(unique.values(), key=lambda letter: (letter.kafka_ms, letter.letter_id))[-limit:]


def _newest(consumer: Any, partitions: list[Any], limit: int, wait_seconds: float) -> Iterator[DeadLetterRecord]:
    consumer.assign(partitions)
    earliest = consumer.beginning_offsets(partitions)
    end = consumer.end_offsets(partitions)
    for partition in partitions:
        # Twice the limit, as a letter may be there twice.
        consumer.seek(partition, max(earliest[partition], end[partition] - 2 * limit))
    started = heard = time.monotonic()
    while heard + wait_seconds > time.monotonic() and heard < started + MAX_LIST_SECONDS:
        for records in consumer.poll(timeout_ms=200).values():
            yield from filter(None, map(read_dead_letter, records))
            heard = time.monotonic()

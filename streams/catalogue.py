"""The catalogue: the whole compacted topic `items`, read from its beginning and kept up with in a thread."""

import logging
from bisect import insort
from typing import Any

from streams.items import InvalidItemError, Item, Withdrawn, decode_news
from streams.kafka_settings import KafkaSettings
from streams.tailing import POLL_MS, TailingThread

MAX_NEWEST = 1_000
"""Items whose first time is kept, the newest."""
RETRY_SECONDS = 1.0
"""Pause before the broker, or a topic that is not there, is tried again."""

_log = logging.getLogger(__name__)


class Catalogue(TailingThread):
    """Titles, categories and availability of every item, as the topic has them now.

    Readers see nothing until the topic has been read to its end once (`ready`); afterwards what they see stays whole:
    while the topic has to be read anew, the former state goes on answering. A record that is no valid item is counted
    and logged. Safe to read from any thread.
    """

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        super().__init__(kafka, topic, name="catalogue", retry_seconds=RETRY_SECONDS)
        self.ready = False
        """Whether the topic has been read to its end."""
        self.problem: str | None = None
        """Why the broker cannot be read now."""
        self.num_invalid = 0
        """Records that were no valid items."""
        self.unavailable: frozenset[str] = frozenset()
        """Ids of the items that must not be recommended."""
        self._items: dict[str, Item] = {}
        self._newest: list[tuple[int, str]] = []

    @property
    def num_items(self) -> int:
        """Items that the catalogue knows."""
        return len(self._items)

    def get(self, item_id: str) -> Item | None:
        """The item; None where the catalogue does not know it."""
        return self._items.get(item_id)

    def newest(self, since_ms: int) -> list[str]:
        """Of the newest `MAX_NEWEST` items those that came since then and may be shown, the newest first.

        An item came with its first record that is there: compaction takes the older ones of an item that was changed.
        """
        newest = reversed(self._newest[:])
        came = [item_id for first_ms, item_id in newest if first_ms >= since_ms and item_id in self._items]
        return [item_id for item_id in came if item_id not in self.unavailable]

    def _note(self, error: Exception) -> None:
        self.problem = f"topic {self.topic} at {', '.join(self.kafka.bootstrap_servers)}: {error}"
        _log.warning("catalogue cannot be read: %s; trying again", self.problem)

    def _follow(self, consumer: Any) -> None:
        """Read from the beginning and go on until the topic's partitions change."""
        partitions = self._partitions(consumer)
        consumer.assign(sorted(partitions))
        reading = _Reading()
        if not partitions:
            self._publish(reading)
            self._stop.wait(self._retry_seconds)
            return
        consumer.seek_to_beginning()
        caught_up = False
        while not self._stop.is_set() and self._partitions(consumer) == partitions:
            batches = consumer.poll(timeout_ms=POLL_MS)
            for records in batches.values():
                self._apply(reading, records)
            # `end_offsets` is not right on every broker; each partition's fetches coming back empty is.
            caught_up = caught_up or (not batches and all(consumer.highwater(p) is not None for p in partitions))
            if caught_up and (batches or self._items is not reading.items):
                self._publish(reading)

    def _apply(self, reading: "_Reading", records: list[Any]) -> None:
        for record in records:
            try:
                reading.apply(record.key, record.value, record.timestamp)
            except InvalidItemError as error:
                self.num_invalid += 1
                place = f"{record.topic}[{record.partition}]@{record.offset}"
                _log.warning("%s is no valid item and is passed over: %s", place, error)

    def _publish(self, reading: "_Reading") -> None:
        if reading.unavailable != self.unavailable:
            self.unavailable = frozenset(reading.unavailable)
        self._items, self._newest = reading.items, reading.newest
        self.problem = None
        self.ready = True


class _Reading:
    """What has been read since the topic's beginning."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.unavailable: set[str] = set()
        self.newest: list[tuple[int, str]] = []
        """When the last few items that came were first told of (Kafka's time), oldest first."""

    def apply(self, key: bytes | None, value: bytes | None, kafka_ms: int) -> None:
        item = decode_news(key, value)
        if isinstance(item, Withdrawn):
            self.items.pop(item.item_id, None)
            self.newest = [came for came in self.newest if came[1] != item.item_id]
        else:
            if item.item_id not in self.items:
                insort(self.newest, (kafka_ms, item.item_id))
                del self.newest[:-MAX_NEWEST]
            self.items[item.item_id] = item
        if isinstance(item, Withdrawn) or item.is_shown:
            self.unavailable.discard(item.item_id)
        else:
            self.unavailable.add(item.item_id)

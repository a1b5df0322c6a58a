"""Actions that are sent from the live page."""

import asyncio
import threading
import uuid

from kafka.errors import KafkaError  # type: ignore[import-untyped]  # kafka-python ships no types

from streams.delivery import connected_producer
from streams.events import Action
from streams.kafka_settings import KafkaSettings
from streams.producer import Delivery, EventProducer
from streams.reachability import no_answer


class Clicks:
    """Sends actions to `events`, over one producer that is made with the first of them."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._making = threading.Lock()
        self._producer: EventProducer | None = None

    async def send(self, user_id: str, item_id: str, action: str, ts_ms: int) -> Delivery:
        """Send one and say where it is; raises `SetupError` where the brokers do not take it."""
        event = Action(event_id=uuid.uuid4().hex, user_id=user_id, item_id=item_id, action=action, ts_ms=ts_ms)
        return await asyncio.to_thread(self._send, event)

    def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            self._producer.close(self._kafka.connect_seconds)

    def _send(self, event: Action) -> Delivery:
        try:
            return self._connected().send(event).result(timeout=self._kafka.connect_seconds)
        except (KafkaError, TimeoutError) as error:
            raise no_answer(self._kafka, error) from error

    def _connected(self) -> EventProducer:
        with self._making:
            if self._producer is None:
                self._producer = connected_producer(self._kafka, self._topic)
            return self._producer

"""Where an ingress reads on in a topic of others: where its group committed, then where it has forwarded to."""

import asyncio
import logging
from collections.abc import Mapping, Set
from typing import Literal

from storage.errors import HeadwaterError, LogHoleError, SetupError
from streams.chunks import Bounds, Chunk
from streams.faults import Ending
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicDescription, existing_topic

logger = logging.getLogger(__name__)


class SourcePositions:
    """The partitions of one topic that are held, and the next offset to forward in each."""

    def __init__(self, kafka: KafkaSettings, topic: str, start: Literal["earliest", "latest"], ending: Ending) -> None:
        self._kafka = kafka
        self._topic = topic
        self._start = start
        self._ending = ending
        self._next: dict[int, int] = {}
        self.description = TopicDescription(topic_id="", num_partitions=0)

    @property
    def topic(self) -> str:
        """The topic whose partitions these are."""
        return self._topic

    @property
    def topic_id(self) -> str:
        """Tells apart topics, and lives of a topic that was made anew."""
        return self.description.topic_id

    @property
    def held(self) -> Set[int]:
        """Partitions that are held now."""
        return self._next.keys()

    @property
    def opening(self) -> Set[int]:
        """None: there is nothing to open."""
        return frozenset()

    def next_offset(self, partition: int) -> int | None:
        """Offset after the last forwarded record, which Faust commits; None where the partition is not held."""
        return self._next.get(partition)

    def failed(self, error: HeadwaterError) -> None:
        """End the ingress because of this error."""
        self._ending.fail(error)

    async def place(self, bounds: Mapping[int, Bounds]) -> Mapping[int, int]:
        """Hold the partitions of `bounds` and no others, and say where reading goes on in each.

        Raises `HeadwaterError` where records expired unread or the log is shorter than what was read of it.
        """
        description = await asyncio.to_thread(existing_topic, self._kafka, self._topic)
        anew = self.topic_id not in ("", description.topic_id)
        if anew:
            logger.warning("topic %s was made anew; reading it from its beginning", self._topic)
            self._next.clear()
        self.description = description
        # Another member may have forwarded and committed more in the meantime, and this one more than it committed.
        self._next = {number: self._position(number, each, anew=anew) for number, each in bounds.items()}
        return dict(self._next)

    def forwarded(self, chunk: Chunk) -> None:
        """Told that the brokers have all records of a chunk."""
        begin = self._next.get(chunk.partition)
        if begin is not None and chunk.start <= begin:
            self._next[chunk.partition] = max(begin, chunk.last + 1)

    def _position(self, partition: int, bounds: Bounds, *, anew: bool) -> int:
        known = [each for each in (self._next.get(partition), None if anew else bounds.committed) if each is not None]
        if not known:
            return bounds.earliest if anew or self._start == "earliest" else bounds.end
        position = max(known)
        place = f"{self._topic}[{partition}]"
        if position < bounds.earliest:
            raise LogHoleError(
                f"records {position} to {bounds.earliest - 1} of {place} expired before they were forwarded; "
                "keep them longer, and reset the group's offsets to go on without them"
            )
        if position > bounds.end and bounds.refused:
            raise SetupError(
                f"{place} ends at {bounds.end}, but was forwarded to {position}: its log was cut or made anew; "
                "reset the group's offsets to read it again"
            )
        return position

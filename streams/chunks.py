"""Chunk transport: Faust's messages of the topic `events` carry a whole chunk of records instead of one.

A Faust message costs some 150 microseconds, whatever it holds. So `getmany` yields one message per partition and
fetch; its value is a `Chunk`. The store and not the consumer group says where reading goes on: a partition whose
next offset is not known is sought, from the store, before anything more is fetched. Seeking happens at the top of
`getmany` and nowhere else, for there alone nothing is in flight that could be taken for what follows the seek.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol, cast

from aiokafka.consumer.fetcher import (  # type: ignore[import-untyped]  # aiokafka ships no types
    FetchResult,
    PartitionRecords,
)
from aiokafka.errors import (  # type: ignore[import-untyped]  # aiokafka ships no types
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage
from yarl import URL

from storage.errors import HeadwaterError

FETCH_WAIT_MS = 50
"""How long a fetch waits for records; a broker serves one fetch of ours at a time, so this delays all partitions."""
RETRY_SECONDS = 1.0
"""Pause after a broker did not answer."""

_PRIVATE_NAMES = (
    (driver.Consumer, "_new_offset"),
    (driver.Consumer, "_new_consumer_thread"),
    (driver.Consumer, "_wait_next_records"),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
    (PartitionRecords, "_consumer_record"),
)
_LIBRARIES = {"faust": ("faust-streaming", "~=0.15.3"), "aiokafka": ("aiokafka", "~=0.14.0")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Consecutive records of one partition, as one fetch brought them."""

    partition: int
    start: int
    """Offset from which they were read: no record between it and the first one exists."""
    last: int
    """Offset of the last record."""
    records: list[Any]
    """Records as aiokafka parses them: `offset`, `timestamp` (ms), `key`, `value` and `headers`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Which offsets of a partition can be read, and what the group committed."""

    earliest: int
    end: int
    """One past the newest record."""
    committed: int | None
    refused: bool
    """Whether the broker refused to read at the last position, because it is outside of these."""


class LogPositions(Protocol):
    """Says where reading goes on."""

    @property
    def topic(self) -> str:
        """The topic whose records come in chunks."""

    @property
    def held(self) -> Set[int]:
        """Partitions that are held now."""

    @property
    def opening(self) -> Set[int]:
        """Assigned partitions that cannot be read yet."""

    async def place(self, bounds: Mapping[int, Bounds]) -> Mapping[int, int]:
        """Next offset of each assigned partition, which `bounds` holds all of, but for those that are `opening`."""

    def next_offset(self, partition: int) -> int | None:
        """Offset after the last applied record; None where the partition is not held."""

    def failed(self, error: HeadwaterError) -> None:
        """Told that `place` raised this."""


class ChunkThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, with a shorter wait per fetch and without the records of aborted transactions."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - no setting of Faust reaches it
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - as above
        return consumer

    async def on_start(self) -> None:
        """Start the consumer, and have it give out the records as its parser makes them."""
        await super().on_start()
        assert self._consumer is not None
        fetcher = self._consumer._fetcher  # noqa: SLF001 - no setting of aiokafka reaches it
        fetcher._records = _ParsedRecords(fetcher._records)  # noqa: SLF001 - as above


class _ParsedRecords(OrderedDict[Any, Any]):
    """What a fetcher has fetched, by partition; its records are the parser's own, not copies in a dataclass.

    That saves a third of what a record costs until it is decoded.
    """

    def __setitem__(self, tp: Any, fetched: Any) -> None:
        if isinstance(fetched, FetchResult):
            fetched._partition_records._consumer_record = _as_parsed  # noqa: SLF001 - as above
        super().__setitem__(tp, fetched)


def _as_parsed(_: Any, record: Any) -> Any:
    return record


class ChunkConsumer(driver.Consumer):
    """Faust's consumer, yielding chunks and reading where the store says."""

    transport: "ChunkTransport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next: dict[TP, int] = {}
        self._astray: set[TP] = set()
        self._waiting: set[TP] = set()
        self._refused: set[TP] = set()
        self._goals: dict[TP, int] = {}

    def seek_later(self, partition: int) -> None:
        """Have the partition sought from the store before the next fetch."""
        self._astray.add(TP(self.transport.positions.topic, partition))

    def highwater(  # type: ignore[override]  # before the first fetch aiokafka gives None, too
        self, tp: TP
    ) -> int | None:
        """One past the newest record that the broker spoke of; None where the partition is not assigned now."""
        # aiokafka asserts that it is, and a rebalance comes between any two lines of ours.
        end: int | None = super().highwater(tp) if tp in self.assignment() else None
        return end

    def lag(self, partition: int) -> int | None:
        """Records that are not applied, from the end that the broker spoke of last; None where that is not known.

        A transaction's marker is no record: once all that was read is applied, what counts is how far was read.
        """
        tp = TP(self.transport.positions.topic, partition)
        end, applied = self.highwater(tp), self.transport.positions.next_offset(partition)
        if end is None or applied is None:
            return None
        read = self.read_to(tp) if self._next.get(tp) == applied else None
        return max(0, end - max(applied, read or 0))

    def read_to(self, tp: TP) -> int | None:
        """Offset that is read next; None where the partition is not assigned, or not sought yet.

        Unlike `position` it does not wait: two that wait are all that Faust's thread does at a time, and the seek that
        would end their waiting comes behind them.
        """
        consumer = self._thread._consumer  # noqa: SLF001 - as in `in_group`
        subscription = consumer._subscription.subscription if consumer else None  # noqa: SLF001 - as above
        assigned = subscription.assignment if subscription else None
        if assigned is None or tp not in assigned.tps:
            return None
        state = assigned.state_value(tp)
        return int(state.position) if state.has_valid_position else None

    def behind(self) -> dict[int, int | None]:
        """Of each assigned partition the records that its log held at that time and that are not applied yet.

        None where the partition is not open, or not known how far its log went.
        """
        topic = self.transport.positions.topic
        return {tp.partition: self._behind(tp) for tp in self.assignment() if tp.topic == topic}

    def in_group(self) -> bool:
        """False once the task that keeps this consumer in its group has died, which happens without a word."""
        consumer = self._thread._consumer  # noqa: SLF001 - aiokafka and Faust tell it nowhere else
        # One that is being stopped leaves its group in order.
        if consumer is None or self.should_stop:
            return True
        coordination: asyncio.Task[None] = consumer._coordinator._coordination_task  # noqa: SLF001 - as above
        return not coordination.done()

    def member_id(self) -> str:
        """Id under which the group knows this consumer; empty where it does not."""
        consumer = self._thread._consumer  # noqa: SLF001 - as in `in_group`
        return "" if consumer is None else consumer._coordinator.member_id or ""  # noqa: SLF001 - as above

    def drop_instance_id(self) -> None:
        """Be in the group without a name from now on, so that joining again takes no other's place."""
        consumer = self._thread._consumer  # noqa: SLF001 - as in `in_group`
        if consumer is not None:
            consumer._coordinator._group_instance_id = None  # noqa: SLF001 - as above

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message per partition that has records."""
        records = await self._fetch(timeout)
        # The generation must be read after the wait: a message of a former one is passed over by the stream.
        generation_id = self.app.consumer_generation_id
        for tp, fetched in records.items():
            start = self._next.pop(tp, None)
            current = self.flow_active and generation_id == self.app.consumer_generation_id
            if start is None or not current or self.should_stop:
                continue
            chunk = Chunk(partition=tp.partition, start=start, last=fetched[-1].offset, records=fetched)
            # Without this, Faust keeps every offset between two messages in a tree of gaps.
            self._read_offset[tp] = None
            yield tp, self._chunk_message(tp, chunk, generation_id)
            self._next[tp] = chunk.last + 1

    async def perform_seek(self) -> None:
        """Forget all positions after a rebalance, so that they are taken from the store."""
        await super().perform_seek()
        self._next.clear()

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: the agent's full queue holds `getmany` back by itself."""

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic != self.transport.positions.topic:
            return super()._new_offset(tp)
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self.transport.positions.next_offset(tp.partition)

    async def _fetch(self, seconds: float) -> Mapping[TP, list[Any]]:
        try:
            await self._seek_astray()
            records, _ = await self._wait_next_records(seconds)
        except NoOffsetForPartitionError:
            self._next.clear()
        except OffsetOutOfRangeError as error:
            self._refused.update(error.args[0])
            self._next.clear()
        except KafkaError as error:
            self.log.warning("Kafka did not answer, trying again: %s", error)
            await self.sleep(RETRY_SECONDS)
        except HeadwaterError as error:
            self.transport.positions.failed(error)
            await self.sleep(RETRY_SECONDS)
        else:
            return records or {}
        return {}

    async def _seek_astray(self) -> None:
        positions = self.transport.positions
        mine = {tp for tp in self.assignment() if tp.topic == positions.topic}
        opening = {tp for tp in mine if tp.partition in positions.opening}
        astray = ({tp for tp in mine if tp not in self._next} | (self._astray & mine)) - opening
        lost = (positions.held | positions.opening) - {tp.partition for tp in mine}
        if not self.flow_active or not (astray or lost):
            return
        self._astray.clear()
        self._next = {tp: offset for tp, offset in self._next.items() if tp in mine - astray}
        bounds = await self._bounds(mine)
        self._goals = {tp: self._goals.get(tp, bounds[tp.partition].end) for tp in mine}
        offsets = await positions.place(bounds)
        wanted = {tp: offsets[tp.partition] for tp in astray if tp.partition in offsets}
        self._wait_for({tp for tp in mine if tp.partition not in offsets}, mine)
        try:
            await self.seek_wait(wanted)
        except IllegalStateError:
            return  # revoked meanwhile; the rebalance leads here again
        self._next.update(wanted)

    def _behind(self, tp: TP) -> int | None:
        goal, applied = self._goals.get(tp), self.transport.positions.next_offset(tp.partition)
        if goal is None or applied is None:
            return None
        return 0 if self.lag(tp.partition) == 0 else max(0, goal - applied)

    def _wait_for(self, waiting: set[TP], mine: set[TP]) -> None:
        # Their records stay where they are; those of the other partitions are fetched meanwhile.
        self.resume_partitions((self._waiting - waiting) & mine)
        self.pause_partitions(waiting)
        self._waiting = waiting

    async def _bounds(self, tps: set[TP]) -> dict[int, Bounds]:
        if not tps:
            return {}
        earliest = await self.earliest_offsets(*tps)
        end = await self.highwaters(*tps)
        refused, self._refused = self._refused, set()
        return {
            tp.partition: Bounds(
                earliest=earliest[tp],
                end=end[tp],
                committed=self._committed_offset[tp],
                refused=tp in refused,
            )
            for tp in tps
        }

    def _chunk_message(self, tp: TP, chunk: Chunk, generation_id: int) -> ConsumerMessage:
        newest = chunk.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            chunk.last,
            newest.timestamp / 1000,
            newest.timestamp_type,
            [],
            None,
            cast("bytes", chunk),
            None,
            serialized_key_size=0,
            serialized_value_size=0,
            tp=tp,
            generation_id=generation_id,
        )


class ChunkTransport(driver.Transport):
    """Faust's Kafka transport with the chunk consumer."""

    Consumer = ChunkConsumer

    def __init__(self, url: list[URL], app: AppT, positions: LogPositions) -> None:
        super().__init__(url, app)
        self.positions = positions


def check_private_names() -> None:
    """Raise `ImportError` where the installed Faust or aiokafka lacks a private name that this transport overrides."""
    for owner, name in _PRIVATE_NAMES:
        if not hasattr(owner, name):
            library, version = _LIBRARIES[owner.__module__.partition(".")[0]]
            raise ImportError(f"{library} has no {owner.__name__}.{name}: install {library}{version}")


check_private_names()

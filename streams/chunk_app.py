"""A Faust app whose agents get chunks of one topic: how it is made, and how it runs until something ends it."""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
from faust.tables import TableManager

from storage.errors import HeadwaterError
from streams.chunks import ChunkConsumer, ChunkTransport, LogPositions
from streams.credentials import faust_credentials
from streams.faults import Ending, exit_now
from streams.kafka_settings import KafkaSettings
from streams.static_member import MovableAssignor

MAX_CHUNK_RECORDS = 50_000
"""Most records that are handed out at once: whole fetches of several partitions, as the store groups them by user."""
MAX_BUFFERED_CHUNKS = 2
MAX_FETCH_BYTES = 1024 * 1024
"""Most bytes that a fetch brings of a partition."""
STOP_SECONDS = 10.0
"""How long an app that ends may take to stop in good order."""


class NoTables(TableManager):
    """Faust's manager of tables, for an app that has none: the group is joined without a second's wait for some."""

    async def on_start(self) -> None:
        """Let the app go on."""
        await self._update_channels()
        await self.recovery.start()


ChunkAgent = Callable[[Any], Coroutine[Any, Any, None]]
"""Takes the stream of chunks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """How an app is a member of its consumer group."""

    group: str
    session_seconds: float
    """How long the group waits for a silent member before its partitions go to others."""
    instance_id: str
    """Name that stays over restarts; empty for none."""


def chunk_app(
    kafka: KafkaSettings,
    membership: Membership,
    positions: LogPositions,
    agent: ChunkAgent,
    *,
    folder: Path,
    **options: Any,
) -> faust.App:
    """An app, not started, whose `agent` gets the chunks of the topic of `positions`; `folder` is Faust's own."""
    folder.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        membership.group,
        broker=[f"kafka://{address}" for address in kafka.bootstrap_servers],
        broker_credentials=faust_credentials(kafka),
        datadir=folder,
        autodiscover=False,
        broker_session_timeout=membership.session_seconds,
        broker_heartbeat_interval=membership.session_seconds / 3,
        broker_max_poll_records=MAX_CHUNK_RECORDS,
        consumer_auto_offset_reset="none",
        consumer_group_instance_id=membership.instance_id or None,
        consumer_max_fetch_size=MAX_FETCH_BYTES,
        stream_buffer_maxsize=MAX_BUFFERED_CHUNKS,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        PartitionAssignor=MovableAssignor,
        TableManager=NoTables,
        **options,
    )
    app.transport = ChunkTransport(app.conf.broker_consumer, app, positions)
    records = app.topic(positions.topic, key_type=bytes, value_type=bytes, value_serializer="raw")
    app.agent(records, name=agent.__name__.strip("_"))(agent)
    return app


def chunk_consumer(app: faust.App) -> ChunkConsumer:
    """The consumer of an app that `chunk_app` made."""
    consumer = app.consumer
    assert isinstance(consumer, ChunkConsumer)
    return consumer


def end_on_signals(ending: Ending) -> None:
    """Have SIGINT and SIGTERM end it in order, where this is the process's main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ending.request)


async def run_app(
    app: faust.App, ending: Ending, *work: Coroutine[Any, Any, None], close: Callable[[], Awaitable[None]]
) -> None:
    """Start the app and the work beside it, wait until something ends them, stop, close.

    Raises the `HeadwaterError` that ended it; ends the process where work ended by itself or stopping hangs.
    """

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or ending.requested:
            return
        error = task.exception()
        if isinstance(error, HeadwaterError):
            ending.fail(error)
        else:
            exit_now("its work ended", error)

    tasks = [asyncio.create_task(each) for each in (_start(app, ending), *work)]
    for task in tasks:
        task.add_done_callback(ended)
    await ending.wait()
    try:
        await asyncio.wait_for(_stop(app, tasks, close), STOP_SECONDS)
    except TimeoutError as error:
        exit_now(f"stopping took over {STOP_SECONDS:g} s", ending.error or error)
    if ending.error is not None:
        raise ending.error


async def _start(app: faust.App, ending: Ending) -> None:
    await app.start()
    await app.wait_until_stopped()
    if not ending.requested:
        raise RuntimeError("Faust stopped by itself") from app.crash_reason


async def _stop(app: faust.App, tasks: list[asyncio.Task[None]], close: Callable[[], Awaitable[None]]) -> None:
    await app.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await close()

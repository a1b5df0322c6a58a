"""Opens the stores of partitions, several at once and in threads, so that one that is slow or fails delays no other."""

import asyncio
import logging
import time
from collections.abc import Callable, Set
from concurrent.futures import Future, ThreadPoolExecutor

from storage.errors import HeadwaterError, StateError, StateInUseError
from storage.header import make_header
from storage.sequence_store import SequenceStore
from storage.shipped_restore import ShippedRestore
from storage.shipping import CheckpointShipping
from storage.store_settings import StoreSettings
from streams.faults import exit_now
from streams.topics import TopicDescription

MAX_THREADS = 8
"""Stores that are opened, or checkpointed, at once."""
OPEN_SECONDS = 30.0
"""How long a partition's store may fail to open, counted from the first failure, while the others go on."""
RETRY_SECONDS = 0.2
"""Pause after a store was in use: another worker of this machine lets it go a moment after we get it."""
FAILED_RETRY_SECONDS = 2.0
"""Pause after any other failure."""

logger = logging.getLogger(__name__)


class Opening:
    """Stores of one topic's partitions on their way to be open; what fails is tried again for a while."""

    def __init__(
        self,
        settings: StoreSettings,
        *,
        topic: str,
        shipping: CheckpointShipping | None,
        opened: Callable[[SequenceStore], None],
        failed: Callable[[HeadwaterError], None],
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._shipping = shipping
        self._opened = opened
        self._failed = failed
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="open")
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._errors: dict[int, HeadwaterError] = {}

    @property
    def partitions(self) -> set[int]:
        """Partitions whose stores are not open yet."""
        return set(self._tasks)

    @property
    def errors(self) -> dict[int, HeadwaterError]:
        """Why the last attempt failed, of those of them that have failed."""
        return dict(self._errors)

    async def begin(self, earliest: dict[int, int], description: TopicDescription, *, wait_seconds: float) -> None:
        """Begin to open partitions whose logs begin at these offsets; returns once each was tried, or after a while."""
        attempts = []
        for number, offset in earliest.items():
            tried = asyncio.Event()
            task = asyncio.create_task(self._open(number, description, offset, tried), name=f"open-{number}")
            self._tasks[number] = task
            task.add_done_callback(_ended)
            attempts.append(asyncio.create_task(tried.wait()))
        if attempts:
            _, late = await asyncio.wait(attempts, timeout=wait_seconds)
            for attempt in late:
                attempt.cancel()

    async def cancel(self, partitions: Set[int]) -> None:
        """Give up opening these; what a thread still opens is closed by it."""
        tasks = [self._tasks.pop(number) for number in partitions & self.partitions]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in partitions:
            self._errors.pop(number, None)

    def close(self) -> None:
        """Open no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _open(self, partition: int, description: TopicDescription, earliest: int, tried: asyncio.Event) -> None:
        deadline = None
        while True:
            try:
                store = await self._in_thread(partition, description, earliest)
            except (HeadwaterError, OSError) as cause:
                error = cause if isinstance(cause, HeadwaterError) else StateError(f"p{partition}: {cause}")
                now = time.monotonic()
                deadline = deadline or now + OPEN_SECONDS
                if now > deadline:
                    self._failed(error)
                    return
                await self._pause(partition, error, tried)
            else:
                self._errors.pop(partition, None)
                self._tasks.pop(partition)
                self._opened(store)
                tried.set()
                return

    async def _in_thread(self, partition: int, description: TopicDescription, earliest: int) -> SequenceStore:
        opening = self._threads.submit(self._open_now, partition, description, earliest)
        try:
            return await asyncio.shield(asyncio.wrap_future(opening))
        except asyncio.CancelledError:
            if not opening.cancel():
                opening.add_done_callback(_close)
            raise

    def _open_now(self, partition: int, description: TopicDescription, earliest: int) -> SequenceStore:
        numbers = {"partition": partition, "num_partitions": description.num_partitions}
        if self._shipping is not None:
            header = make_header(self._settings, topic=self._topic, **numbers)
            folder, topic_id = self._settings.folder, description.topic_id
            restore = ShippedRestore(self._shipping, folder, partition=partition, topic_id=topic_id)
            restore.run(header=header, earliest=earliest)
        return SequenceStore.open(self._settings, topic=self._topic, topic_id=description.topic_id, **numbers)

    async def _pause(self, partition: int, error: HeadwaterError, tried: asyncio.Event) -> None:
        if isinstance(error, StateInUseError):
            await asyncio.sleep(RETRY_SECONDS)
            return
        place = {"partition": partition}
        logger.error("partition %d of %s cannot be opened: %s", partition, self._topic, error, extra=place)
        self._errors[partition] = error
        tried.set()
        await asyncio.sleep(FAILED_RETRY_SECONDS)


def _close(opening: Future[SequenceStore]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _ended(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        exit_now(f"{task.get_name()} failed", error)

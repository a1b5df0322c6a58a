"""Checkpoints of the partitions that are held: made in threads, then shipped, while the event loop goes on applying."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from storage.checkpoints import CheckpointName, Checkpoints
from storage.errors import HeadwaterError
from storage.sequence_store import SequenceStore
from storage.shipping import CheckpointShipping

MAX_THREADS = 4
"""Checkpoints that are made at once."""
MAX_SHIPPING_THREADS = 2
"""Checkpoints that are shipped at once."""

logger = logging.getLogger(__name__)


class CheckpointThreads:
    """Where the checkpoints of all partitions of a worker are made and shipped."""

    def __init__(self, shipping: CheckpointShipping | None) -> None:
        self._shipping = shipping
        self._making = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="checkpoint")
        self._sending = ThreadPoolExecutor(MAX_SHIPPING_THREADS, thread_name_prefix="ship")

    @property
    def ships(self) -> bool:
        """Whether checkpoints are shipped."""
        return self._shipping is not None

    async def make(self, store: SequenceStore) -> Path:
        """Make a checkpoint of a store, which may be written meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._making, store.checkpoint)

    async def ship(self, place: Path) -> int:
        """Ship a checkpoint; returns how many bytes that took."""
        assert self._shipping is not None
        return await asyncio.get_running_loop().run_in_executor(self._sending, self._shipping.ship, place)

    def close(self) -> None:
        """Start no more; what runs in a thread is not waited for."""
        self._making.shutdown(wait=False, cancel_futures=True)
        self._sending.shutdown(wait=False, cancel_futures=True)


class PartitionCheckpoints:
    """The checkpoints of one open store: one is made at a time, and one is shipped at a time."""

    def __init__(self, store: SequenceStore, threads: CheckpointThreads, *, topic_id: str) -> None:
        self._store = store
        self._threads = threads
        self._making = asyncio.Lock()
        self._shipping: asyncio.Task[None] | None = None
        self._shipped = -1
        found = Checkpoints(store.settings.folder / "checkpoints", partition=store.partition, keep=1)
        self._made = None if threads.ships else found.made(topic_id)

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the newest was made, for one that is shipped if it has arrived; None where none is known."""
        return None if self._made is None else max(0.0, time.time() - self._made)

    async def make(self) -> None:
        """Make a checkpoint of what is applied and have it shipped, unless one is being shipped still."""
        async with self._making:
            if self._store.applied < 0:
                return
            now = time.time()
            place = await self._threads.make(self._store)
        if not self._threads.ships:
            self._made = now
        elif self._shipping is None or self._shipping.done():
            self._shipping = asyncio.create_task(self._ship(place, now))

    async def made(self) -> None:
        """Return once no checkpoint is being made: only then may the store be closed."""
        async with self._making:
            pass

    async def arrived(self) -> None:
        """Return once no checkpoint is being shipped."""
        if self._shipping is not None:
            await asyncio.shield(self._shipping)

    async def _ship(self, place: Path, now: float) -> None:
        applied = CheckpointName.of(place).applied
        where = {"partition": self._store.partition, "offset": applied}
        try:
            if applied != self._shipped:
                num_bytes = await self._threads.ship(place)
                logger.info("checkpoint %s is shipped with %d bytes that are new", place.name, num_bytes, extra=where)
        except (OSError, HeadwaterError) as error:
            logger.warning("checkpoint %s is not shipped, the next one will be: %s", place.name, error, extra=where)
        else:
            self._made, self._shipped = now, applied

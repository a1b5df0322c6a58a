"""Partitions of a worker without Faust: chunks, bounds, and how to place them."""

import asyncio
from collections.abc import Callable

import pytest

from storage.changes import Change, Updated
from storage.sequence_store import SequenceStore
from streams.chunks import Bounds, Chunk
from streams.partitions import Partitions


class IdleSender:
    """Stands for an outbox sender that has nothing to do."""

    def __init__(self, store: SequenceStore) -> None:
        self.store = store

    def wake(self) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


def bounds(earliest: int = 0, end: int = 100, committed: int | None = None, *, refused: bool = False) -> Bounds:
    return Bounds(earliest=earliest, end=end, committed=committed, refused=refused)


def chunk(start: int, last: int, partition: int = 0) -> tuple[Chunk, list[Change]]:
    changes: list[Change] = [Updated(offset=last, user_id="u", ts_ms=0, features={"n": last})]
    return Chunk(partition=partition, start=start, last=last, records=[]), changes


async def until(done: Callable[[], object]) -> None:
    """Let the loop run until it is so; fails after a while."""
    for _ in range(2_000):
        if done():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come")


def place(partitions: Partitions, found: dict[int, Bounds], *chunks: tuple[Chunk, list[Change]]) -> dict[int, int]:
    """Place partitions, apply chunks, close; where reading would have gone on."""

    async def run() -> dict[int, int]:
        try:
            offsets = dict(await partitions.place(found))
            for each in chunks:
                partitions.apply(*each)
            return offsets
        finally:
            await partitions.close()

    return asyncio.run(run())

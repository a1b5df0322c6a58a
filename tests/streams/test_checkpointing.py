"""Checkpoints made and shipped beside the stream."""

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.checkpoints import CheckpointName, read_log_state
from storage.errors import StateError
from storage.sequence_store import SequenceStore
from streams.partitions import Partitions
from tests.streams.placing import bounds, chunk, place, until


def test_a_checkpoint_beside_writes_holds_what_its_name_says(
    partitions_factory: Callable[..., Partitions], tmp_path: Path
) -> None:
    """It is made in a thread: a name ahead of the content would have the records between applied never."""
    partitions = partitions_factory()
    checked: set[str] = set()

    def check() -> None:
        for found in (tmp_path / "state" / "checkpoints").glob("p0.*"):
            if found.suffix != ".tmp" and found.name not in checked:
                assert read_log_state(found).applied == CheckpointName.of(found).applied
                checked.add(found.name)

    async def run() -> None:
        await partitions.place({0: bounds()})
        offset = 0
        for _ in range(12):
            making = asyncio.ensure_future(partitions.checkpoint())
            while not making.done() or offset % 50:
                partitions.apply(*chunk(offset, offset))
                offset += 1
                await asyncio.sleep(0)
            check()
        await partitions.close()

    asyncio.run(run())
    assert len(checked) > 6


def test_checkpoints_on_revoke_keep_to_their_time(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group waits for this callback: a slow disk must not have the worker thrown out."""
    partitions = partitions_factory()
    go = threading.Event()
    checkpoint = SequenceStore.checkpoint

    def checkpoint_slowly(self: SequenceStore) -> Path:
        go.wait(20)
        return checkpoint(self)

    async def run() -> None:
        await partitions.place({0: bounds()})
        partitions.apply(*chunk(0, 4))
        monkeypatch.setattr(SequenceStore, "checkpoint", checkpoint_slowly)
        await partitions.checkpoint(0.05)
        assert partitions.checkpoint_age_seconds(0) is None
        closing = asyncio.ensure_future(partitions.close())
        await asyncio.sleep(0.05)
        assert not closing.done(), "the store must stay open while a thread reads it"
        go.set()
        await closing

    asyncio.run(run())
    assert partitions._ending.error is None


def test_a_checkpoint_that_fails_ends_the_worker(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without checkpoints the log expires before anything holds it, unseen."""
    partitions = partitions_factory()

    def refuse(_: SequenceStore) -> Path:
        raise StateError("no room")

    async def run() -> None:
        await partitions.place({0: bounds()})
        partitions.apply(*chunk(0, 4))
        monkeypatch.setattr(SequenceStore, "checkpoint", refuse)
        await partitions.checkpoint()
        await partitions.close()

    asyncio.run(run())
    assert str(partitions._ending.error) == "no room"


def test_the_age_of_a_checkpoint_is_known_and_an_old_one_is_renewed(
    partitions_factory: Callable[..., Partitions], tmp_path: Path
) -> None:
    """The log may not reach back to an old one for long, and nobody would see it."""
    partitions = partitions_factory()

    async def first() -> None:
        await partitions.place({0: bounds()})
        assert partitions.checkpoint_age_seconds(0) is None
        assert partitions.checkpoint_age_seconds(1) is None
        partitions.apply(*chunk(0, 4))
        await partitions.checkpoint()
        age = partitions.checkpoint_age_seconds(0)
        assert age is not None
        assert age < 60
        await partitions.close()

    asyncio.run(first())
    (made,) = (tmp_path / "state" / "checkpoints").iterdir()
    os.utime(made, (1.0, 1.0))

    async def second() -> None:
        again = partitions_factory()
        await again.place({0: bounds()})
        await until(lambda: (again.checkpoint_age_seconds(0) or 1e9) < 60)
        await again.close()

    asyncio.run(second())


def test_a_worker_on_an_empty_disk_goes_on_where_the_last_shipped_checkpoint_is(
    partitions_factory: Callable[..., Partitions], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A lost machine would cost the replay of the whole log, or the state where that has expired."""
    url = str(tmp_path / "shipped")

    async def first() -> None:
        partitions = partitions_factory(checkpoint_url=url)
        await partitions.place({0: bounds()})
        partitions.apply(*chunk(0, 49))
        await partitions.checkpoint()
        await partitions.ship(20)
        assert partitions.checkpoint_age_seconds(0) is not None
        await partitions.close()

    asyncio.run(first())
    shutil.rmtree(tmp_path / "state")
    assert place(partitions_factory(checkpoint_url=url), {0: bounds(50, committed=50)}) == {0: 50}


def test_a_store_that_ships_nothing_goes_on_and_says_so(
    partitions_factory: Callable[..., Partitions], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of the bucket must not stop the stream, and must show in the age."""

    async def run() -> None:
        partitions = partitions_factory(checkpoint_url=str(tmp_path / "shipped"))
        await partitions.place({0: bounds()})
        partitions.apply(*chunk(0, 4))
        shutil.rmtree(tmp_path / "shipped")
        (tmp_path / "shipped").write_text("no folder any more")
        await partitions.checkpoint()
        await partitions.ship(20)
        assert partitions.checkpoint_age_seconds(0) is None
        assert partitions._ending.error is None
        await partitions.close()

    asyncio.run(run())
    assert "is not shipped, the next one will be" in caplog.text

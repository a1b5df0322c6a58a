"""Stores that open late, or not at all."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.errors import StateError
from storage.sequence_store import SequenceStore
from streams.opening import MAX_THREADS
from streams.partitions import Partitions
from tests.streams.placing import bounds, chunk, place, until


def test_a_state_folder_in_use_is_waited_for(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers of one machine share a folder: the first lets a partition go after the second gets it."""
    monkeypatch.setattr("streams.partitions.OPEN_WAIT_SECONDS", 0.1)
    first, second = partitions_factory(), partitions_factory()

    async def run() -> None:
        await first.place({0: bounds()})
        assert await second.place({0: bounds()}) == {}
        assert (set(second.opening), set(second.held)) == ({0}, set())
        await first.close()
        await until(lambda: second.held == {0})
        assert await second.place({0: bounds()}) == {0: 0}
        await second.close()

    asyncio.run(run())


def test_a_state_folder_that_stays_in_use_ends_the_worker(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that nobody serves must not look like one that has nothing to do."""
    monkeypatch.setattr("streams.partitions.OPEN_WAIT_SECONDS", 0.1)
    monkeypatch.setattr("streams.opening.OPEN_SECONDS", 0.3)
    first, second = partitions_factory(), partitions_factory()

    async def run() -> None:
        await first.place({0: bounds()})
        await second.place({0: bounds()})
        await until(lambda: second._ending.requested)
        await second.close()
        await first.close()

    asyncio.run(run())
    assert isinstance(second._ending.error, StateError)
    assert "in use by another process" in str(second._ending.error)


def damage(tmp_path: Path, partition: int) -> None:
    (tmp_path / "state" / f"p{partition}" / "CURRENT").write_text("nothing")


def test_a_partition_that_does_not_open_takes_no_other_down(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One damaged folder of 64 would stop the worker, and so do it wherever it is started."""
    monkeypatch.setattr("streams.partitions.OPEN_WAIT_SECONDS", 0.3)
    place(partitions_factory(), {0: bounds(), 1: bounds()})
    damage(tmp_path, 1)
    partitions = partitions_factory()

    async def run() -> None:
        assert await partitions.place({0: bounds(), 1: bounds()}) == {0: 0}
        assert partitions.apply(*chunk(0, 4)) is not None
        assert (partitions.opening, partitions._ending.requested) == ({1}, False)
        (tmp_path / "state" / "p1" / "CURRENT").unlink()
        for path in (tmp_path / "state" / "p1").iterdir():
            path.unlink()
        await until(lambda: partitions.held == {0, 1})
        assert await partitions.place({0: bounds(), 1: bounds()}) == {0: 5, 1: 0}
        await partitions.close()

    monkeypatch.setattr("streams.opening.FAILED_RETRY_SECONDS", 0.5)
    asyncio.run(run())


def test_where_no_partition_opens_the_worker_ends_at_once(
    partitions_factory: Callable[..., Partitions], tmp_path: Path
) -> None:
    """Other settings than those of the state fail for all of them: trying again would only hide it."""
    place(partitions_factory(), {0: bounds(), 1: bounds()})
    damage(tmp_path, 0)
    damage(tmp_path, 1)
    with pytest.raises(StateError, match="cannot be opened"):
        place(partitions_factory(), {0: bounds(), 1: bounds()})


def test_many_partitions_open_at_once_but_not_all(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 restores one after the other exceed the group's patience; all at once exceed the machine's."""
    together = threading.Barrier(MAX_THREADS, timeout=20)
    lock = threading.Lock()
    now, most = 0, 0
    opened = SequenceStore.open

    def open_together(*args: Any, **kwargs: Any) -> SequenceStore:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        store = opened(*args, **kwargs)
        with lock:
            now -= 1
        return store

    monkeypatch.setattr("streams.opening.SequenceStore.open", open_together)
    monkeypatch.setattr("streams.partitions.OPEN_WAIT_SECONDS", 60.0)
    assert place(partitions_factory(), {number: bounds() for number in range(64)}) == dict.fromkeys(range(64), 0)
    assert most == MAX_THREADS


def test_a_partition_that_goes_while_it_opens_is_let_go(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is opened for nobody would be in use until the process ends."""
    go = threading.Event()
    opened = SequenceStore.open

    def open_late(*args: Any, **kwargs: Any) -> SequenceStore:
        go.wait(20)
        return opened(*args, **kwargs)

    monkeypatch.setattr("streams.partitions.OPEN_WAIT_SECONDS", 0.1)
    partitions, other = partitions_factory(), partitions_factory()

    async def run() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("streams.opening.SequenceStore.open", open_late)
            assert await partitions.place({0: bounds()}) == {}
        assert await partitions.place({}) == {}
        assert (set(partitions.opening), set(partitions.held)) == (set(), set())
        go.set()
        await other.place({0: bounds()})
        await until(lambda: other.held == {0})
        await other.close()
        await partitions.close()

    asyncio.run(run())

"""Where reading goes on, and what ends a worker."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import HeadwaterError, LogHoleError, SetupError, StateError
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.partitions import Partitions
from tests.streams.placing import IdleSender, bounds, chunk, place


@pytest.mark.parametrize(("start", "offset"), [("earliest", 40), ("latest", 100)])
def test_a_new_partition_begins_where_the_settings_say(
    partitions_factory: Callable[..., Partitions], start: str, offset: int
) -> None:
    """A new user's topic whose first records expired cannot be read at all."""
    assert place(partitions_factory(start=start), {0: bounds(40)}, chunk(offset, offset + 5)) == {0: offset}
    assert place(partitions_factory(start=start), {0: bounds(40)}) == {0: offset + 6}


def test_a_kill_does_not_forget_where_a_new_partition_began(
    partitions_factory: Callable[..., Partitions], tmp_path: Path
) -> None:
    """A worker that was killed before its first flush reads from the log's beginning what it was to pass over."""
    partitions = partitions_factory(start="latest")

    async def run() -> None:
        await partitions.place({0: bounds()})
        folder = partitions.stores[0].settings.folder
        shutil.copytree(folder / "p0", tmp_path / "killed" / "p0", ignore=shutil.ignore_patterns("LOCK"))
        await partitions.close()

    asyncio.run(run())
    store = SequenceStore.open(
        StoreSettings(folder=tmp_path / "killed"), topic="events", partition=0, num_partitions=2, topic_id="t1"
    )
    assert store.applied == 99
    store.close()


def test_lost_state_is_not_passed_over(partitions_factory: Callable[..., Partitions]) -> None:
    """The group has read records that this state has not: they would be missing for ever."""
    with pytest.raises(LogHoleError, match=r"offsets 0 to 39 of events-0 have expired .*restore a checkpoint"):
        place(partitions_factory(), {0: bounds(40, committed=60)})
    assert place(partitions_factory(start="latest"), {1: bounds(0, committed=60)}) == {1: 0}


def test_expired_records_end_the_worker(partitions_factory: Callable[..., Partitions]) -> None:
    place(partitions_factory(), {0: bounds()}, chunk(0, 9))
    with pytest.raises(LogHoleError, match="offsets 10 to 11 of events-0 have expired"):
        place(partitions_factory(), {0: bounds(12)})


def test_a_log_that_was_cut_ends_the_worker(partitions_factory: Callable[..., Partitions]) -> None:
    """State runs ahead of its log and passes over what is written there next."""
    place(partitions_factory(), {0: bounds()}, chunk(0, 99))
    assert place(partitions_factory(), {0: bounds(end=90)}) == {0: 100}
    with pytest.raises(StateError, match=r"offset 100 of events-0, which ends at 90: the log was cut"):
        place(partitions_factory(), {0: bounds(end=90, refused=True)})


def test_a_topic_made_anew_is_read_from_its_beginning(partitions_factory: Callable[..., Partitions]) -> None:
    """The new log's first records are taken for those that were applied."""
    place(partitions_factory(), {0: bounds()}, chunk(0, 9))
    assert place(partitions_factory(topic_id="t2"), {0: bounds(committed=10)}) == {0: 0}
    assert place(partitions_factory(topic_id="t3", start="latest"), {0: bounds(3, committed=10)}) == {0: 3}


def test_a_hole_is_refused_and_foreign_chunks_are_passed_over(partitions_factory: Callable[..., Partitions]) -> None:
    partitions = partitions_factory()

    async def run() -> None:
        await partitions.place({0: bounds()})
        assert partitions.apply(*chunk(0, 4)) is not None
        with pytest.raises(LogHoleError):
            partitions.apply(*chunk(6, 7))
        assert partitions.apply(*chunk(0, 4, partition=1)) is None
        assert (partitions.next_offset(0), partitions.next_offset(1)) == (5, None)
        await partitions.place({1: bounds()})
        assert set(partitions.stores) == {1}
        await partitions.close()

    asyncio.run(run())


def test_a_missing_topic_is_named(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    partitions = partitions_factory()
    monkeypatch.setattr("streams.partitions.describe_topic", lambda *_: None)
    with pytest.raises(SetupError, match="topic events does not exist: run `headwater topics create`"):
        place(partitions, {0: bounds()})


@pytest.mark.parametrize("error", [SetupError("samples does not take it"), RuntimeError("bug")])
def test_a_sender_that_ends_ends_the_worker(
    partitions_factory: Callable[..., Partitions], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Samples stay in the outbox for ever while everything looks well."""

    class FailingSender(IdleSender):
        async def run(self) -> None:
            raise error

    exits: list[int] = []
    monkeypatch.setattr("streams.faults.os._exit", exits.append)
    monkeypatch.setattr("streams.faults.logging.shutdown", lambda: None)
    partitions = partitions_factory(sender=FailingSender)

    async def run() -> None:
        await partitions.place({0: bounds()})
        await asyncio.sleep(0.01)
        await partitions.close()

    asyncio.run(run())
    ended = partitions._ending
    assert (ended.error, exits) == ((error, []) if isinstance(error, HeadwaterError) else (None, [70]))

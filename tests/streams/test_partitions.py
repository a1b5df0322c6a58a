"""Where reading goes on, and what ends a worker."""

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.changes import Change, Updated
from storage.checkpoints import CheckpointName, read_log_state
from storage.errors import HeadwaterError, LogHoleError, SetupError, StateError
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.chunks import Bounds, Chunk
from streams.faults import Ending
from streams.kafka_settings import KafkaSettings
from streams.opening import MAX_THREADS
from streams.partitions import Partitions
from streams.topics import TopicDescription, TopicSettings
from streams.worker_settings import WorkerSettings


class IdleSender:
    """Stands for an outbox sender that has nothing to do."""

    def __init__(self, store: SequenceStore) -> None:
        self.store = store

    def wake(self) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


@pytest.fixture
def partitions_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Partitions]:
    def make(*, topic_id: str = "t1", sender: Any = IdleSender, **worker: Any) -> Partitions:
        described = TopicDescription(topic_id=topic_id, num_partitions=2)
        monkeypatch.setattr("streams.partitions.describe_topic", lambda *_: described)
        return Partitions(
            kafka=KafkaSettings(),
            topics=TopicSettings(num_partitions=2),
            store=StoreSettings(folder=tmp_path / "state"),
            worker=WorkerSettings(**worker),
            new_sender=sender,
            ending=Ending(),
        )

    return make


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

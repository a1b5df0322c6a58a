"""When a shipped checkpoint takes the place of what is on the disk."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.changes import Acted, Change
from storage.errors import SnapshotError, StateError, StateInUseError
from storage.header import make_header
from storage.objects import Objects
from storage.sequence_store import SequenceStore
from storage.shipped_restore import AHEAD_RECORDS, ShippedRestore
from storage.shipping import CheckpointShipping
from storage.store_settings import StoreSettings
from tests.storage.plain import StoreFactory

Bring = Callable[..., Path | None]


@pytest.fixture
def shipping(tmp_path: Path) -> CheckpointShipping:
    return CheckpointShipping(str(tmp_path / "shipped"), topic="events", keep=9)


@pytest.fixture
def bring(tmp_path: Path, shipping: CheckpointShipping) -> Bring:
    """Runs a restore into the test's folder."""

    def run(*, topic_id: str = "t1", earliest: int = 0, cap: int = 1_100) -> Path | None:
        settings = StoreSettings(folder=tmp_path, cap=cap, sample_exposures=5)
        header = make_header(settings, topic="events", partition=0, num_partitions=2)
        return ShippedRestore(shipping, tmp_path, partition=0, topic_id=topic_id).run(header=header, earliest=earliest)

    return run


def advance(store: SequenceStore, last: int) -> SequenceStore:
    changes: list[Change] = [
        Acted(offset=last, user_id="ada", ts_ms=last, kafka_ms=last, item_id="x", action=0),
    ]
    store.apply(store.applied + 1, last, changes)
    return store


def ship(factory: StoreFactory, shipping: CheckpointShipping, last: int, *, topic_id: str = "t1") -> None:
    """Ship a checkpoint of this offset from another disk."""
    folder = shipping.url + "-from"
    store = advance(factory(folder=Path(folder), topic_id=topic_id), last)
    shipping.ship(store.checkpoint())
    store.close()


def local(factory: StoreFactory, last: int, *, topic_id: str = "t1", checkpoint: bool = False) -> None:
    """Have state of this offset on the disk."""
    store = advance(factory(topic_id=topic_id), last)
    if checkpoint:
        store.checkpoint()
    store.close()


def test_an_empty_disk_takes_the_newest(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring
) -> None:
    """A worker on a new machine would replay the whole log, if it is still there."""
    assert bring() is None
    for last in (5, 9):
        ship(store_factory, shipping, last)
    assert bring() is not None
    assert store_factory().applied == 9


@pytest.mark.parametrize(("mine", "applied"), [(8, 9), (9, 9), (10, 10)])
def test_the_newest_of_local_and_shipped_checkpoints_wins(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring, tmp_path: Path, mine: int, applied: int
) -> None:
    local(store_factory, mine, checkpoint=True)
    shutil.rmtree(tmp_path / "p0")
    ship(store_factory, shipping, 9)
    assert (bring() is not None) == (mine < 9)
    assert store_factory().applied == applied


def test_local_state_gives_way_only_to_what_is_far_ahead(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring
) -> None:
    """A worker that comes back after a week off would replay the week."""
    local(store_factory, 10)
    ship(store_factory, shipping, 10 + AHEAD_RECORDS)
    assert bring() is None
    assert store_factory().applied == 10


def test_local_state_that_is_left_behind_is_replaced(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring, tmp_path: Path
) -> None:
    local(store_factory, 10, checkpoint=True)
    ship(store_factory, shipping, 11 + AHEAD_RECORDS)
    assert bring() is not None
    assert not (tmp_path / "p0").exists()
    store = store_factory()
    assert (store.applied, len(store.read("ada"))) == (11 + AHEAD_RECORDS, 1)
    assert not list(tmp_path.glob("*.old"))


def test_local_state_that_the_log_no_longer_joins_is_replaced(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring
) -> None:
    """What lies between has expired: without the checkpoint the worker could only refuse."""
    local(store_factory, 10)
    ship(store_factory, shipping, 20)
    assert bring(earliest=11) is None
    assert bring(earliest=12) is not None
    assert store_factory().applied == 20


def test_only_where_the_log_has_no_checkpoint_one_of_a_former_log_serves(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring, tmp_path: Path
) -> None:
    """Offsets of another log say nothing about this one."""
    ship(store_factory, shipping, 500, topic_id="old")
    assert bring(topic_id="t1") is not None
    store = store_factory()
    assert (store.epoch, store.applied, len(store.read("ada"))) == (1, -1, 1)
    store.close()
    assert bring(topic_id="t2") is None, "the disk holds something"
    ship(store_factory, shipping, 4, topic_id="t2")
    shutil.rmtree(tmp_path / "p0")
    shutil.rmtree(tmp_path / "checkpoints")
    assert bring(topic_id="t2") is not None
    assert store_factory(topic_id="t2").applied == 4


def test_state_of_a_former_log_gives_way_to_a_checkpoint_of_this_one_that_is_far(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring
) -> None:
    local(store_factory, 10**6, topic_id="old")
    ship(store_factory, shipping, AHEAD_RECORDS + 1, topic_id="t1")
    assert bring() is not None
    assert store_factory().applied == AHEAD_RECORDS + 1


def test_a_damaged_one_is_passed_over_for_the_next_with_a_warning(
    store_factory: StoreFactory,
    shipping: CheckpointShipping,
    bring: Bring,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """One broken object must cost neither the start nor the rest of the checkpoints, nor go unsaid."""
    for last in (1, 2, 3):
        ship(store_factory, shipping, last)
    newest, second, _ = shipping.newest_first(0, "t1")
    (tmp_path / "shipped" / newest.path).write_bytes(b"{}")
    shared = {path.name for path in (tmp_path / "shipped").rglob("files/*")}
    manifest = (tmp_path / "shipped" / second.path).read_text()
    oldest = (tmp_path / "shipped" / shipping.newest_first(0, "t1")[2].path).read_text()
    own = next(name for name in sorted(shared) if name.partition("-")[0] in manifest and name[:32] not in oldest)
    (tmp_path / "shipped" / "events" / "p0" / second.shipper / "files" / own).unlink()
    with caplog.at_level(logging.WARNING):
        assert bring() is not None
    assert store_factory().applied == 1
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.args and record.args[0] for record in warnings] == [newest.path, second.path]  # type: ignore[index] # a tuple


def test_without_the_object_store_local_state_goes_on_and_an_empty_disk_does_not(
    store_factory: StoreFactory,
    shipping: CheckpointShipping,
    bring: Bring,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An outage of the bucket must not stop a worker that needs nothing of it, nor have another begin from nothing."""

    def refuse(*_: object) -> None:
        raise SnapshotError("no answer")

    monkeypatch.setattr(Objects, "list", refuse)
    with pytest.raises(SnapshotError, match="no answer"):
        bring()
    local(store_factory, 3)
    with caplog.at_level(logging.WARNING):
        assert bring() is None
    assert "partition 0 goes on with local state: no answer" in caplog.text


def test_other_settings_are_refused_and_named_with_where_they_lie(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring, tmp_path: Path
) -> None:
    """Deleting the local folder, as the error says elsewhere, would not help: the next open fetches it again."""
    ship(store_factory, shipping, 7)
    path = shipping.newest_first(0, "t1")[0].path
    with pytest.raises(StateError, match=rf"shipped/{path} was made otherwise: cap is 1100 there and 1200"):
        bring(cap=1_200)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_state_that_another_process_holds_is_left_alone(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring
) -> None:
    """Renaming a folder under a worker that writes it would have that one write into nothing."""
    store = advance(store_factory(), 3)
    ship(store_factory, shipping, 4 + AHEAD_RECORDS)
    with pytest.raises(StateInUseError):
        bring()
    store.close()
    assert bring() is not None


@pytest.mark.parametrize("step", ["storage.shipped_restore.shutil.rmtree", "pathlib.Path.rename"])
def test_a_restore_that_dies_at_any_step_is_begun_again(
    store_factory: StoreFactory,
    shipping: CheckpointShipping,
    bring: Bring,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    step: str,
) -> None:
    """Dying after step 1, 2, 3 or 4: what is there is the former state, or none and the fetched checkpoint."""
    local(store_factory, 10)
    ship(store_factory, shipping, 20 + AHEAD_RECORDS)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(step, die)
        with pytest.raises(KeyboardInterrupt):
            bring()
    bring()
    assert store_factory().applied == 20 + AHEAD_RECORDS
    assert not list(tmp_path.glob("*.old"))
    assert not list((tmp_path / "checkpoints").glob("*.fetched"))


def test_what_a_restore_that_was_killed_left_goes_with_the_next(
    store_factory: StoreFactory, shipping: CheckpointShipping, bring: Bring, tmp_path: Path
) -> None:
    """A database that was moved aside, or half of a download, would lie there for ever."""
    ship(store_factory, shipping, 5)
    leftovers = [tmp_path / "p0.99.old", tmp_path / "checkpoints" / "p0.99.fetched"]
    others = [tmp_path / "p1.99.old", tmp_path / "checkpoints" / "p1.99.fetched"]
    for folder in (*leftovers, *others):
        folder.mkdir(parents=True)
        (folder / "000001.sst").write_bytes(b"half")
    assert bring() is not None
    assert not any(folder.exists() for folder in leftovers)
    assert all(folder.exists() for folder in others)

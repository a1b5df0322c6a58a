import logging
import os
import shutil
from pathlib import Path

import pytest

from storage.changes import Change
from storage.checkpoints import CheckpointName, Checkpoints, read_log_state
from storage.database import Database, new_batch
from storage.errors import StateError
from storage.keys import LOG
from storage.sequence_store import SequenceStore
from tests.storage.plain import StoreFactory, make_changes, summaries
from tests.storage.records import acted


def apply_to(store: SequenceStore, last: int) -> None:
    changes: list[Change] = [acted(offset) for offset in range(store.applied + 1, last + 1)]
    store.apply(store.applied + 1, last, changes)


def lose_state(folder: Path) -> None:
    shutil.rmtree(folder / "p0")


def test_state_comes_back_from_the_newest_checkpoint(store_factory: StoreFactory, tmp_path: Path) -> None:
    """A worker on an empty disk must not replay the whole log."""
    changes = make_changes(300)
    store = store_factory()
    store.apply(0, 199, changes[: sum(change.offset < 200 for change in changes)])
    place = store.checkpoint()
    assert place == tmp_path / "checkpoints" / f"p0.t1@199.{os.getpid()}"
    outbox = store.outbox(1_000)
    num_timers = store.num_timers
    store.apply(200, 299, [change for change in changes if change.offset >= 200])
    expected = {user_id: summaries(store.read(user_id)) for user_id in store.users()}
    whole = store.outbox(1_000)
    store.close()
    lose_state(tmp_path)
    store = store_factory()
    assert (store.applied, store.num_users, store.num_timers, store.outbox(1_000)) == (199, 3, num_timers, outbox)
    store.apply(150, 299, [change for change in changes if change.offset >= 150])
    assert {user_id: summaries(store.read(user_id)) for user_id in store.users()} == expected
    assert store.outbox(1_000) == whole


def test_a_restored_store_shares_no_file_that_is_ever_written(store_factory: StoreFactory, tmp_path: Path) -> None:
    """Writing on into a checkpoint through a hard link would spoil it for the next restore."""
    store = store_factory()
    apply_to(store, 9)
    place = store.checkpoint()
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    for _ in range(2):
        store.close()
        lose_state(tmp_path)
        store = store_factory()
        assert store.applied == 9
        apply_to(store, 30)
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_only_the_newest_checkpoints_stay_and_only_of_this_partition(
    store_factory: StoreFactory, tmp_path: Path
) -> None:
    """Hard links keep deleted data alive: checkpoints that are never deleted fill the disk."""
    other = store_factory(partition=1)
    kept = [other.checkpoint()]
    store = store_factory()
    for last in (3, 10, 101):
        apply_to(store, last)
        kept.append(store.checkpoint())
    assert sorted((tmp_path / "checkpoints").iterdir()) == sorted([kept[0], *kept[2:]])
    assert store.checkpoint() == kept[-1]


def test_a_checkpoint_of_the_current_log_wins_over_a_newer_one_of_a_former(
    store_factory: StoreFactory, tmp_path: Path
) -> None:
    """Offsets of another log say nothing about this one."""
    old = store_factory(topic_id="old")
    apply_to(old, 500)
    old_place = old.checkpoint()
    old.close()
    new = store_factory(topic_id="new")
    apply_to(new, 4)
    new_place = new.checkpoint()
    new.close()
    os.utime(old_place, (2**33, 2**33))
    checkpoints = Checkpoints(tmp_path / "checkpoints", partition=0, keep=2)
    assert checkpoints.newest_first("new") == [new_place, old_place]
    assert checkpoints.newest_first("newer") == [old_place, new_place]
    lose_state(tmp_path)
    assert (store := store_factory(topic_id="new")).applied == 4
    assert store.epoch == 1


def test_where_the_log_has_no_checkpoint_the_newest_of_a_former_log_serves(
    store_factory: StoreFactory, tmp_path: Path
) -> None:
    """Sequences outlive a topic that was made anew."""
    store = store_factory(topic_id="old")
    apply_to(store, 5)
    store.checkpoint()
    store.close()
    lose_state(tmp_path)
    store = store_factory(topic_id="new")
    assert (store.epoch, store.applied, len(store.read("ada"))) == (1, -1, 6)


def test_a_broken_checkpoint_is_passed_over_with_a_warning(
    store_factory: StoreFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One damaged file must not cost the whole replay, nor go unsaid."""
    store = store_factory(num_checkpoints=9)
    places = []
    for last in (1, 2, 3, 4, 5):
        apply_to(store, last)
        places.append(store.checkpoint())
    store.close()
    lose_state(tmp_path)
    (places[4] / "CURRENT").unlink()
    for path in places[3].glob("*.sst"):
        path.unlink()
    for path in places[2].glob("MANIFEST*"):
        path.write_bytes(b"nonsense")
    shutil.rmtree(places[1])
    places[1].mkdir()
    Database(places[1]).close()
    with caplog.at_level(logging.WARNING):
        store = store_factory(num_checkpoints=9)
    assert store.applied == 1
    assert [record.args[0] for record in caplog.records if record.args] == places[:0:-1]  # type: ignore[index] # a tuple
    assert not list(tmp_path.glob("*.restore"))


@pytest.mark.parametrize("tenth", range(10))
def test_damage_anywhere_in_a_table_is_found(
    store_factory: StoreFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture, tenth: int
) -> None:
    """Restored with damaged rows, a partition cannot be opened, again and again, with a good checkpoint beside."""
    store = store_factory()
    apply_to(store, 600)
    store.checkpoint()
    apply_to(store, 1_200)
    place = store.checkpoint()
    lengths = [len(store.read(user)) for user in store.users()]
    store.close()
    lose_state(tmp_path)
    table = max(place.glob("*.sst"), key=lambda path: path.stat().st_size)
    content = bytearray(table.read_bytes())
    content[len(content) * tenth // 10 + 5] ^= 0x5A
    table.unlink()
    table.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        store = store_factory()
    # What tables hold beside rows, such as their properties, may be damaged and of no consequence.
    assert store.applied == 600 or (tenth == 9 and [len(store.read(user)) for user in store.users()] == lengths)
    assert ("is passed over" in caplog.text) == (store.applied == 600)


def test_a_store_that_cannot_be_opened_is_not_held(store_factory: StoreFactory, tmp_path: Path) -> None:
    """Once the folder is mended, or deleted as the error says, the worker that saw it damaged cannot open it."""
    store = store_factory()
    apply_to(store, 600)
    store.close()
    table = max((tmp_path / "p0").glob("*.sst"), key=lambda path: path.stat().st_size)
    content = table.read_bytes()
    table.write_bytes(content[: len(content) // 2] + bytes(50) + content[len(content) // 2 + 50 :])
    with pytest.raises(StateError, match="cannot be read: Corruption") as kept:
        store_factory()
    table.write_bytes(content)
    assert store_factory().applied == 600
    assert kept.tb is not None


def test_a_checkpoint_that_vanishes_under_a_restore_is_passed_over(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker may delete the second newest while it is being read."""
    store = store_factory()
    apply_to(store, 1)
    store.checkpoint()
    apply_to(store, 2)
    newest = store.checkpoint()
    store.close()
    lose_state(tmp_path)
    seen = Checkpoints.newest_first

    def vanish(self: Checkpoints, topic_id: str) -> list[Path]:
        found = seen(self, topic_id)
        shutil.rmtree(newest)
        return found

    monkeypatch.setattr(Checkpoints, "newest_first", vanish)
    assert store_factory().applied == 1


def test_without_any_good_checkpoint_the_store_begins_empty(store_factory: StoreFactory, tmp_path: Path) -> None:
    """The log is then asked from its beginning; a hole there is refused by `apply`."""
    store = store_factory()
    apply_to(store, 3)
    (store.checkpoint() / "CURRENT").unlink()
    store.close()
    lose_state(tmp_path)
    assert store_factory().applied == -1


def test_a_checkpoint_of_other_settings_is_refused_and_not_passed_over(
    store_factory: StoreFactory, tmp_path: Path
) -> None:
    """Settings that differ are for a person to decide, whether state is local or restored."""
    store = store_factory()
    apply_to(store, 3)
    store.checkpoint()
    store.close()
    lose_state(tmp_path)
    with pytest.raises(StateError, match="cap is 1100 there and 1200"):
        store_factory(cap=1_200)


def test_a_checkpoint_that_died_before_its_rename_is_removed_and_never_restored(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dying after step 2: half a checkpoint must neither be used nor stay."""
    store = store_factory()
    apply_to(store, 3)
    first = store.checkpoint()
    apply_to(store, 8)

    def die(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            store.checkpoint()
    leftovers = list((tmp_path / "checkpoints").glob("*.tmp"))
    assert len(leftovers) == 1
    store.close()
    lose_state(tmp_path)
    store = store_factory()
    assert store.applied == 3
    assert store.checkpoint() == first
    assert not leftovers[0].exists()


def test_a_restore_that_died_at_any_step_is_begun_again(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dying after step 1 or 2: the half-made folder is not the state."""
    store = store_factory()
    apply_to(store, 3)
    store.checkpoint()
    store.close()
    lose_state(tmp_path)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("storage.checkpoints._check", "pathlib.Path.rename"):
        with monkeypatch.context() as patched:
            patched.setattr(step, die)
            with pytest.raises(KeyboardInterrupt):
                store_factory()
        assert list(tmp_path.glob("p0.*.restore"))
    assert store_factory().applied == 3
    assert not list(tmp_path.glob("p0.*.restore"))


def test_where_links_are_not_possible_files_are_copied(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints may lie on another file system than the state."""
    store = store_factory()
    apply_to(store, 3)
    store.checkpoint()
    store.close()
    lose_state(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert store_factory().applied == 3


def test_a_checkpoint_is_known_by_its_folders_name(store_factory: StoreFactory, tmp_path: Path) -> None:
    """What is shipped and restored is chosen by what names say."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", partition=0, keep=2)
    assert (checkpoints.applied("t1"), checkpoints.made("t1")) == (-1, None)
    store = store_factory(topic_id="t1")
    apply_to(store, 5)
    place = store.checkpoint()
    assert CheckpointName.of(place) == (0, "t1", 5)
    assert (checkpoints.applied("t1"), checkpoints.applied("other")) == (5, -1)
    assert (checkpoints.made("t1"), checkpoints.made("other")) == (place.stat().st_mtime, None)
    with pytest.raises(ValueError, match=r"place must be a checkpoint, got .*p0"):
        CheckpointName.of(tmp_path / "p0")


@pytest.mark.parametrize(
    ("value", "message"),
    [(None, "has no header"), (b"\xc1", "cannot be decoded: .*; delete this folder"), (b"\x90", "cannot be decoded")],
)
def test_a_folder_that_does_not_say_how_far_it_goes_is_refused(
    tmp_path: Path, value: bytes | None, message: str
) -> None:
    """A checkpoint is named by what it holds; one that does not say it must not be named by a guess."""
    database = Database(tmp_path / "db")
    batch = new_batch()
    batch.put(b"other", b"")
    if value is not None:
        batch.put(LOG, value)
    database.write(batch)
    database.close()
    with pytest.raises(StateError, match=message):
        read_log_state(tmp_path / "db")
    with pytest.raises(StateError, match="cannot be read"):
        read_log_state(tmp_path / "absent")

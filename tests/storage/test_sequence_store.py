import logging
from pathlib import Path

import msgspec
import pytest

from storage.changes import Acted, Change, Exposed, Refused, SampleRef, Updated
from storage.chunk import Applied
from storage.database import Database, new_batch
from storage.entries import Kind, SequenceEvent, pack_position
from storage.errors import LogHoleError, StateError
from storage.keys import HEADER, OutboxKey
from storage.sequence_store import SequenceStore
from tests.storage.plain import StoreFactory, make_changes, plain_fold


def exposed(offset: int, user_id: str = "ada", num: int = 1) -> Exposed:
    items = [f"item{offset}-{index}" for index in range(num)]
    return Exposed(offset=offset, user_id=user_id, ts_ms=offset, kafka_ms=offset + 1, item_ids=items)


def acted(offset: int, user_id: str = "ada", item_id: str = "x") -> Acted:
    return Acted(offset=offset, user_id=user_id, ts_ms=offset, kafka_ms=offset + 1, item_id=item_id, action=1)


def refused(offset: int) -> Refused:
    return Refused(
        offset=offset, kafka_ms=1, cause="wrong_type", message="?", key=b"\0", head=b"{}", size=2, sha256="0"
    )


def test_one_chunk_counts_what_it_did_and_is_read_back(store_factory: StoreFactory) -> None:
    """The simplest thing that a worker does must be right first."""
    store = store_factory()
    changes: list[Change] = [
        exposed(0, num=2),
        acted(1, item_id="item0-1"),
        refused(3),
        Updated(offset=4, user_id="bob", features={"age": 40, "name": "Bob"}),
        Updated(offset=5, user_id="bob", features={"age": 41, "new": True}),
    ]
    assert store.apply(0, 6, changes) == Applied(exposed=2, acted=1, updated=2, refused=1, skipped=0, samples=1)
    assert store.read("ada") == [
        SequenceEvent("item0-0", 0, 0, None, 0, 0, None, 0),
        SequenceEvent("item0-1", 0, 0b10, None, 0, 1, 1, 1),
    ]
    assert store.features("bob") == {"age": 41, "name": "Bob", "new": True}
    assert (store.applied, store.epoch, store.partition, store.num_users) == (6, 0, 0, 2)
    assert sorted(store.users()) == ["ada", "bob"]
    assert [entry.kind for entry in store.entries("ada")] == [Kind.EXPOSURE, Kind.EXPOSURE, Kind.ACTION]
    assert [entry.kafka_ms for entry in store.entries("ada", since=0)] == [2]


def test_a_user_who_is_not_known_has_an_empty_sequence_and_no_features(store_factory: StoreFactory) -> None:
    """A stranger is no error at serving."""
    store = store_factory()
    assert store.read("nobody") == store.read("nobody", until=3, last=2) == []
    assert store.features("nobody") == {}
    assert list(store.users()) == []


def test_a_hole_in_the_log_is_refused_with_nothing_applied(store_factory: StoreFactory) -> None:
    """Skipping what is applied alone does not see a chunk that was lost."""
    store = store_factory()
    store.apply(0, 4, [acted(2)])
    with pytest.raises(LogHoleError, match="offsets 5 to 5 of partition 0 are missing"):
        store.apply(6, 9, [acted(7)])
    assert store.applied == 4
    assert len(store.read("ada")) == 1


def test_what_is_delivered_again_changes_nothing(store_factory: StoreFactory) -> None:
    """Kafka delivers again after every rebalance and crash."""
    store = store_factory()
    store.apply(0, 4, [acted(2)])
    assert store.apply(0, 4, [acted(2)]) == Applied(skipped=1)
    assert store.apply(1, 3, []) == Applied()
    assert store.applied == 4
    assert store.apply(0, 5, [acted(2), acted(5)]) == Applied(acted=1, skipped=1, samples=1)
    assert store.applied == 5
    assert len(store.read("ada")) == 2


def test_changes_out_of_order_or_out_of_the_chunk_are_refused(store_factory: StoreFactory) -> None:
    """A caller that mixes two chunks must hear of it before the state does."""
    store = store_factory()
    for changes in ([acted(3), acted(2)], [acted(2), acted(2)], [acted(5)]):
        with pytest.raises(ValueError, match="offsets of changes must rise from 0 to 4"):
            store.apply(0, 4, changes)
    store.apply(0, 4, [])
    with pytest.raises(ValueError, match="got 1 after 1"):
        store.apply(2, 6, [acted(1)])


def test_samples_are_due_by_actions_and_by_exposures_and_their_ranges_meet(store_factory: StoreFactory) -> None:
    """Every record is to be learned once: ranges may neither overlap nor leave a gap."""
    store = store_factory(sample_every=2, sample_exposures=5)
    records: list[Change] = [exposed(0), acted(1), acted(2), exposed(3, num=4), exposed(4, num=1), acted(5), acted(6)]
    applied = store.apply(0, 6, records)
    assert applied.samples == 3
    assert store.outbox(10) == [
        (OutboxKey(2, 0), SampleRef(user_id="ada", since=-1, num_records=3)),
        (OutboxKey(4, 0), SampleRef(user_id="ada", since=2, num_records=5)),
        (OutboxKey(6, 0), SampleRef(user_id="ada", since=4, num_records=2)),
    ]
    ranges = [store.entries("ada", since=since, until=until) for since, until in ((-1, 2), (2, 4), (4, 6))]
    assert [len(entries) for entries in ranges] == [3, 5, 2]


def test_the_outbox_is_read_in_pages_and_emptied_by_acknowledging(store_factory: StoreFactory) -> None:
    """What is sent twice costs, what is never sent is lost."""
    store = store_factory()
    store.apply(0, 9, [acted(1, "ada"), refused(2), acted(3, "bob"), acted(7, "ada")])
    first = store.outbox(2)
    assert [key for key, _ in first] == [(1, 0), (2, 0)]
    assert first[1][1] == refused(2)
    rest = store.outbox(10, after=first[-1][0])
    assert [key for key, _ in rest] == [(3, 0), (7, 0)]
    assert store.outbox(0) == []
    assert store.outbox_size == 4
    store.acknowledge([OutboxKey(1, 0), OutboxKey(3, 0), OutboxKey(3, 0), OutboxKey(99, 0)])
    assert store.outbox_size == 2
    store.close()
    store = store_factory()
    assert store.outbox_size == 2
    assert [key for key, _ in store.outbox(10)] == [(2, 0), (7, 0)]
    store.acknowledge(key for key, _ in store.outbox(10))
    assert store.outbox(10) == []
    assert store.outbox(10, after=OutboxKey(1, 0)) == []


def test_user_ids_of_any_characters_are_kept_apart(store_factory: StoreFactory) -> None:
    """A user whose id begins with another's, or holds the separator, must not read that one's events."""
    user_ids = ["a", "a\0", "a\0\0", "a/b", "é" * 128, "\U0001f600", "\x00", "b" * 256, "../p1", "a\xff"]
    store = store_factory()
    store.apply(0, 20, [acted(offset, user_id) for offset, user_id in enumerate(user_ids)])
    for offset, user_id in enumerate(user_ids):
        assert [event.group for event in store.read(user_id)] == [offset]
    assert sorted(store.users()) == sorted(user_ids)


def test_the_last_events_are_those_by_event_time_as_of_a_position(store_factory: StoreFactory) -> None:
    """A sample's context is what was known then, not what is known now."""
    changes = make_changes(200, users=1)
    store = store_factory()
    store.apply(0, 199, changes)
    whole = plain_fold(changes, "user0", cap=1_100, until=120)
    assert store.read("user0", until=120) == whole
    assert store.read("user0", until=120, last=7) == whole[-7:]
    assert store.read("user0", until=120, last=0) == []
    with pytest.raises(ValueError, match="last must be >= 0, got -1"):
        store.read("user0", last=-1)


def test_a_topic_made_anew_begins_an_epoch_behind_everything_that_was(
    store_factory: StoreFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Offsets alone do not see a new log; taking it for the old one loses its first records."""
    store = store_factory(topic_id="first")
    store.apply(0, 7, [exposed(3), acted(7, item_id="item3-0")])
    store.close()
    with caplog.at_level(logging.WARNING):
        store = store_factory(topic_id="second")
    assert "topic events was made anew" in caplog.text
    assert (store.epoch, store.applied) == (1, -1)
    store.apply(0, 0, [acted(0, item_id="item3-0")])
    assert store.read("ada") == [
        SequenceEvent("item3-0", 3, 0b10, None, 3, 0, 7, pack_position(1, 0)),
    ]
    assert [key.position for key, _ in store.outbox(9)] == [7, pack_position(1, 0)]
    store.close()
    again = store_factory(topic_id="second")
    assert (again.epoch, again.applied, again.num_users) == (1, 0, 1)


@pytest.mark.parametrize("topic_id", ["", "a/b", "a@1", "x" * 65])
def test_a_topic_id_that_could_not_name_a_checkpoint_is_refused(store_factory: StoreFactory, topic_id: str) -> None:
    """The id is part of a folder's name."""
    with pytest.raises(ValueError, match="topic_id must be 1 to 64"):
        store_factory(topic_id=topic_id)


def test_state_of_other_settings_is_refused_with_every_difference(store_factory: StoreFactory) -> None:
    """State is a function of log and settings; mixed settings would make it a function of neither."""
    store_factory().close()
    with pytest.raises(StateError) as caught:
        store_factory(actions=("buy",), cap=1_200, sample_every=7, sample_exposures=9, topic="others")
    text = str(caught.value)
    for part in (
        "actions is ('click', 'like', 'dislike', 'rate') there and ('buy') in the settings",
        "cap is 1100 there and 1200 in the settings",
        "sample_every is 1 there and 7",
        "sample_exposures is 5 there and 9",
        "topic is 'events' there and 'others'",
        "use the former settings, or delete the state folder",
    ):
        assert part in text
    assert "\n" not in text
    assert store_factory().applied == -1


def test_another_partition_count_is_refused_with_how_to_rebuild(store_factory: StoreFactory) -> None:
    """With another count users live in other stores, and half of each sequence would be missing."""
    store_factory().close()
    with pytest.raises(StateError, match="moves users between stores: delete the state folder"):
        store_factory(num_partitions=3)


def test_state_of_another_format_is_refused(store_factory: StoreFactory, tmp_path: Path) -> None:
    """Bytes of another format decode to nonsense or not at all."""
    store_factory().close()
    database = Database(tmp_path / "p0")
    batch = new_batch()
    batch.put(HEADER, msgspec.msgpack.encode({"format_version": 2, "what": "ever"}))
    database.write(batch)
    database.close()
    with pytest.raises(
        StateError, match=r"format_version is 2 there and 1 .* use the version of Headwater that made it"
    ):
        store_factory()


def test_a_folder_in_use_is_refused_in_one_line(store_factory: StoreFactory) -> None:
    """Two workers on one state folder is what a user does when a terminal was forgotten."""
    store_factory()
    with pytest.raises(StateError, match=r"p0 is in use by another process: stop that one, or set another folder$"):
        store_factory()


def test_closing_twice_is_closing_once_and_what_follows_is_refused(store_factory: StoreFactory) -> None:
    """Stop handlers run in any order; a write after closing must not pass unseen."""
    store = store_factory()
    store.close()
    store.close()
    with pytest.raises(StateError, match="it is closed; open it again"):
        store.apply(0, 0, [acted(0)])
    with pytest.raises(StateError, match="it is closed; open it again"):
        store.apply(0, 0, [])
    assert store.applied == -1


def test_a_failed_write_leaves_the_store_as_it_was(
    store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not leave memory ahead of the database."""
    store = store_factory()

    def fail(batch: object) -> None:
        raise StateError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("storage.database.Database.write", lambda self, batch: fail(batch))
        with pytest.raises(StateError, match="disk full"):
            store.apply(0, 3, [acted(1)])
    assert (store.applied, store.outbox_size, store.num_users, store.read("ada")) == (-1, 0, 0, [])
    assert store.apply(0, 3, [acted(1)]).samples == 1


def test_damaged_blocks_are_an_error_and_not_an_end(store_factory: StoreFactory, tmp_path: Path) -> None:
    """RocksDB's cursor stops at a damaged block as if there were nothing more."""
    store = store_factory()
    for start in range(0, 4_000, 100):
        store.apply(start, start + 99, [acted(offset, f"user{offset % 50}") for offset in range(start, start + 100)])
    store.checkpoint()  # flushes
    store.close()
    for path in (tmp_path / "p0").glob("*.sst"):
        data = bytearray(path.read_bytes())
        for place in range(64, len(data) * 3 // 4, 512):
            data[place] ^= 0xFF
        path.write_bytes(data)
    with pytest.raises(StateError, match="delete this folder: the newest checkpoint is restored"):
        _read_everything(store_factory())


def _read_everything(store: SequenceStore) -> None:
    for number in range(50):
        store.read(f"user{number}")
    list(store.users())
    store.outbox(10_000)


def test_a_database_without_its_current_file_is_damage_and_not_a_new_store(
    store_factory: StoreFactory, tmp_path: Path
) -> None:
    """RocksDB would begin an empty database in its place."""
    store = store_factory()
    store.apply(0, 5, [acted(3)])
    store.checkpoint()
    store.close()
    (tmp_path / "p0" / "CURRENT").unlink()
    with pytest.raises(StateError, match="CURRENT is missing"):
        store_factory()


def test_a_folder_whose_first_opening_was_cut_short_is_begun_anew(store_factory: StoreFactory, tmp_path: Path) -> None:
    """A crash in the first second must not need a hand."""
    (tmp_path / "p0").mkdir()
    (tmp_path / "p0" / "LOG").write_text("began")
    assert store_factory().applied == -1

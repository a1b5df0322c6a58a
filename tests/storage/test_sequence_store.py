import logging
from pathlib import Path

import msgspec
import pytest

from storage.changes import Change, SampleRef, Ticked, Updated
from storage.database import Database, new_batch
from storage.entries import pack_position
from storage.errors import LogHoleError, StateError
from storage.keys import HEADER, OutboxKey
from storage.user_run import Applied
from tests.storage.plain import StoreFactory
from tests.storage.records import acted, exposed, refused


def test_one_chunk_counts_what_it_did_and_is_read_back(store_factory: StoreFactory) -> None:
    """The simplest thing that a worker does must be right first."""
    store = store_factory()
    changes: list[Change] = [
        exposed(0, "x", "y"),
        acted(1, "y", value=2.5),
        refused(3),
        Updated(4, "bob", 7, {"age": 40, "name": "Bob"}),
        Ticked(5, 9),
    ]
    assert store.apply(0, 6, changes) == Applied(exposed=2, acted=1, updated=1, refused=1, samples=1)
    found = store.read("ada", since=0)
    assert found.item_ids == ["x", "y"]
    columns = (found.ts_ms, found.actions, found.groups, found.indexes, found.acted, found.last, found.shown)
    assert [column.tolist() for column in columns] == [
        [0, 0], [0, 0b10], [0, 0], [0, 1], [-1, 1], [0, 1], [True, True],
    ]  # fmt: skip
    assert (found.value_places.tolist(), found.value_actions.tolist(), found.values.tolist()) == ([1], [1], [2.5])
    assert found.new_kafka_ms.tolist() == [2]
    assert store.features("bob") == {"age": 40, "name": "Bob"}
    assert (store.applied, store.epoch, store.partition, store.num_users) == (6, 0, 0, 1)
    assert (store.watermark_ms, store.num_timers, store.outbox_size) == (9, 1, 2)
    assert list(store.users()) == ["ada"]


def test_a_user_who_is_not_known_has_an_empty_sequence_and_no_features(store_factory: StoreFactory) -> None:
    """A stranger is no error at serving."""
    store = store_factory()
    assert len(store.read("nobody")) == len(store.read("nobody", until=3, last=2, since=1)) == 0
    assert (store.features("nobody"), store.updates("nobody")) == ({}, [])
    assert list(store.users()) == []
    assert (store.watermark_ms, store.num_timers, store.num_users) == (0, 0, 0)


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
    records: list[Change] = [
        exposed(0), acted(1), acted(2), exposed(3, *"abcd"), exposed(4, "e"), acted(5), acted(6),
    ]  # fmt: skip
    assert store.apply(0, 6, records).samples == 3
    assert store.outbox(10) == [
        (OutboxKey(2, 0), SampleRef(user_id="ada", since=-1, num_records=3)),
        (OutboxKey(4, 0), SampleRef(user_id="ada", since=2, num_records=5)),
        (OutboxKey(6, 0), SampleRef(user_id="ada", since=4, num_records=2)),
    ]


def test_timers_of_several_users_fire_with_one_record_in_order_of_time_then_user(store_factory: StoreFactory) -> None:
    """The rank among one record's samples is part of their ids: it may not depend on how users lie in a dict."""
    store = store_factory(sample_every=9, session_gap_seconds=0.01)
    users = ["zoe", "bob", "ada", "\u00e9va"]
    changes: list[Change] = [acted(offset, user_id=user, ts_ms=100) for offset, user in enumerate(users)]
    changes.append(acted(4, user_id="early", ts_ms=95))
    store.apply(0, 4, changes)
    assert (store.num_timers, store.outbox_size) == (5, 0)
    store.close()
    store = store_factory(sample_every=9, session_gap_seconds=0.01)
    assert store.num_timers == 5
    assert store.apply(5, 5, [Ticked(5, 110)]).samples == 5
    due = [(key, item.user_id) for key, item in store.outbox(9) if isinstance(item, SampleRef)]
    assert due == [
        ((5, 0), "early"), ((5, 1), "ada"), ((5, 2), "bob"), ((5, 3), "zoe"), ((5, 4), "\u00e9va"),
    ]  # fmt: skip
    assert (store.num_timers, store.watermark_ms) == (0, 110)
    assert store.apply(6, 6, [Ticked(6, 10_000)]).samples == 0


def test_a_timer_is_armed_anew_for_a_user_who_went_on_and_gone_for_one_who_is_done(store_factory: StoreFactory) -> None:
    """A session ends when the user stops, not when the first timer runs out."""
    store = store_factory(sample_every=2, session_gap_seconds=0.01)
    store.apply(0, 1, [acted(0, ts_ms=100), exposed(1, "y", ts_ms=106)])
    assert store.apply(2, 2, [Ticked(2, 112)]).samples == 0
    assert store.num_timers == 1
    assert store.apply(3, 3, [Ticked(3, 116)]).samples == 1
    store.apply(4, 5, [acted(4, ts_ms=200), acted(5, ts_ms=201)])
    assert (store.outbox_size, store.num_timers) == (2, 1)
    assert store.apply(6, 6, [Ticked(6, 300)]).samples == 0
    assert store.num_timers == 0


def test_a_label_delay_bounds_how_long_an_event_waits(store_factory: StoreFactory) -> None:
    """A user who never stops would otherwise be learned by count alone."""
    store = store_factory(sample_every=9, session_gap_seconds=0.0, label_delay_seconds=0.02)
    records: list[Change] = [exposed(offset, f"i{offset}", ts_ms=100 + 6 * offset) for offset in range(5)]
    for offset, record in enumerate(records):
        store.apply(offset, offset, [record])
    assert [key for key, _ in store.outbox(9)] == [(4, 0)]
    assert store.outbox(9)[0][1] == SampleRef(user_id="ada", since=-1, num_records=5)


def test_an_event_older_than_a_full_sequence_is_too_late(store_factory: StoreFactory) -> None:
    """Rows that a trim would drop at once must not count as pending."""
    store = store_factory(cap=8, sample_exposures=3)
    store.apply(0, 15, [acted(offset, f"i{offset}") for offset in range(16)])
    assert store.read("ada").item_ids == [f"i{offset}" for offset in range(8, 16)]
    due = store.outbox_size
    assert store.apply(16, 17, [acted(16, ts_ms=7), acted(17, ts_ms=8)]) == Applied(too_late=1, acted=1, samples=1)
    assert store.outbox_size == due + 1


def test_a_user_of_whom_a_trim_leaves_nothing_is_still_known_however_chunks_are_cut(
    store_factory: StoreFactory,
) -> None:
    """Counters of a user may not depend on whether the trim was in their first chunk."""
    store = store_factory(cap=2, sample_exposures=1, exposure_rate=1e-9)
    cut = store_factory(cap=2, sample_exposures=1, exposure_rate=1e-9, partition=1)
    changes = [exposed(offset, f"i{offset}", ts_ms=1) for offset in range(4)]
    assert store.apply(0, 3, [*changes]).trimmed == 4
    for change in changes:
        cut.apply(change.offset, change.offset, [change])
    assert store.num_users == cut.num_users == len(list(store.users())) == len(list(cut.users())) == 1
    assert store.outbox(9) == cut.outbox(9)
    assert store.apply(4, 4, [exposed(4, ts_ms=0)]) == cut.apply(4, 4, [exposed(4, ts_ms=0)])
    assert store.outbox(9) == cut.outbox(9)


def test_the_outbox_is_read_in_pages_and_emptied_by_acknowledging(store_factory: StoreFactory) -> None:
    """What is sent twice costs, what is never sent is lost."""
    store = store_factory()
    store.apply(0, 9, [acted(1), refused(2), acted(3, user_id="bob"), acted(7)])
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
    user_ids = ["a", "a\0", "a\0\0", "a/b", "\u00e9" * 128, "\U0001f600", "\x00", "b" * 256, "../p1", "a\xff"]
    store = store_factory()
    store.apply(0, 20, [acted(offset, user_id=user_id) for offset, user_id in enumerate(user_ids)])
    for offset, user_id in enumerate(user_ids):
        assert store.read(user_id).groups.tolist() == [offset]
    assert sorted(store.users()) == sorted(user_ids)
    with pytest.raises(UnicodeEncodeError):
        store.read("\ud800")


def test_a_topic_made_anew_begins_an_epoch_behind_everything_that_was(
    store_factory: StoreFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Offsets alone do not see a new log; taking it for the old one loses its first records."""
    store = store_factory(topic_id="first")
    store.apply(0, 7, [exposed(3), acted(7)])
    store.close()
    with caplog.at_level(logging.WARNING):
        store = store_factory(topic_id="second")
    assert "topic events was made anew" in caplog.text
    assert (store.epoch, store.applied, store.watermark_ms) == (1, -1, 7)
    store.apply(0, 0, [acted(0, ts_ms=8)])
    found = store.read("ada")
    assert (found.groups.tolist(), found.acted.tolist(), found.last.tolist()) == ([3], [7], [pack_position(1, 0)])
    assert [key.position for key, _ in store.outbox(9)] == [7, pack_position(1, 0)]
    store.close()
    again = store_factory(topic_id="second")
    assert (again.epoch, again.applied, again.num_users) == (1, 0, 1)


def test_a_store_knows_the_topic_id_of_each_epoch(store_factory: StoreFactory) -> None:
    """What a former log still has in the outbox would go out under the id of the present one, and pass over its own."""
    for topic_id in ("first", "second", "third", "third"):
        store = store_factory(topic_id=topic_id)
        assert store.topic_id == topic_id
        store.close()
    store = store_factory(topic_id="third")
    positions = [pack_position(epoch, 7) for epoch in range(3)]
    assert [store.topic_id_at(position) for position in positions] == ["first", "second", "third"]
    with pytest.raises(StateError, match="cannot be decoded: no topic id of epoch 3"):
        store.topic_id_at(pack_position(3, 0))


@pytest.mark.parametrize("topic_id", ["", "a/b", "a@1", "x" * 65])
def test_a_topic_id_that_could_not_name_a_checkpoint_is_refused(store_factory: StoreFactory, topic_id: str) -> None:
    """The id is part of a folder's name."""
    with pytest.raises(ValueError, match="topic_id must be 1 to 64"):
        store_factory(topic_id=topic_id)


def test_state_of_other_settings_is_refused_with_every_difference(store_factory: StoreFactory) -> None:
    """State is a function of log and settings; mixed settings would make it a function of neither."""
    store_factory().close()
    with pytest.raises(StateError) as caught:
        store_factory(
            actions=("buy",), cap=1_200, sample_every=7, sample_exposures=9, topic="others", session_gap_seconds=9.0,
            label_delay_seconds=8.0, attribution_seconds=7.0, exposure_rate=0.5,
        )  # fmt: skip
    text = str(caught.value)
    for part in (
        "actions is ('click', 'like', 'dislike', 'rate') there and ('buy') in the settings",
        "cap is 1100 there and 1200 in the settings",
        "sample_every is 1 there and 7",
        "sample_exposures is 5 there and 9",
        "session_gap_seconds is 1800.0 there and 9.0",
        "label_delay_seconds is 0.0 there and 8.0",
        "attribution_seconds is 86400.0 there and 7.0",
        "exposure_rate is 1.0 there and 0.5",
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
    batch.put(HEADER, msgspec.msgpack.encode({"format_version": 1, "what": "ever"}))
    database.write(batch)
    database.close()
    with pytest.raises(
        StateError, match=r"format_version is 1 there and 2 .* use the version of Headwater that made it"
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
    assert (store.applied, store.outbox_size, store.num_users, len(store.read("ada"))) == (-1, 0, 0, 0)
    assert store.apply(0, 3, [acted(1)]).samples == 1


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

"""A user is forgotten: nothing of one is left in the store, and nothing else of it changes."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.changes import Acted, Change, Exposed, ForgetRef, Forgot, SampleRef, Ticked, Updated
from storage.columns import NO_RECORDS, columns_of
from storage.errors import StateError
from storage.forgetting import parts_of
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from tests.storage.records import acted, exposed, refused

GONE = "forget-me-5b1f"
ITEM = "secret-9c3e"


def open_store(folder: Path, **changes: Any) -> SequenceStore:
    rules: dict[str, Any] = {"cap": 60, "sample_every": 3, "sample_exposures": 8, "session_gap_seconds": 0.5}
    settings = StoreSettings(folder=folder, **(rules | changes))
    store = SequenceStore.open(settings, topic="events", partition=0, num_partitions=1, topic_id="t1")
    store.prepare_samples(10)
    return store


def a_log(num: int, forgets: tuple[int, ...] = (), seed: int = 0) -> list[Change]:
    """Records of three users, two of whom have ids that begin alike; at `forgets` one of them is forgotten."""
    rng, changes = random.Random(seed), list[Change]()
    for offset in range(num):
        user_id = rng.choice([GONE, f"{GONE}2", "ada"])
        item = f"{ITEM}-{user_id}-{rng.randrange(30)}"
        if offset in forgets:
            changes.append(Forgot(offset, GONE))
        elif rng.random() < 0.05:
            changes.append(Updated(offset, user_id, offset, {f"feature of {user_id}": offset}))
        elif rng.random() < 0.1:
            changes.append(refused(offset))
        elif rng.random() < 0.5:
            changes.append(exposed(offset, item, f"{item}b", user_id=user_id, event_id=f"e{offset}"))
        else:
            changes.append(acted(offset, item, user_id=user_id, event_id=f"e{offset}", value=1.0))
    return changes


def of_the_user(text: bytes) -> bool:
    """Whether bytes tell of the user who was forgotten, and not of the one whose id is longer by a letter."""
    return GONE.encode() in text.replace(f"{GONE}2".encode(), b"")


def apply_in_chunks(store: SequenceStore, changes: list[Change], size: int) -> None:
    for start in range(0, len(changes), size):
        chunk = changes[start : start + size]
        store.apply(start, start + len(chunk) - 1, chunk)


def content(store: SequenceStore) -> list[tuple[bytes, bytes]]:
    return list(store._db.scan(b"", b"\xff"))


@pytest.fixture
def full(tmp_path: Path) -> Iterator[SequenceStore]:
    """A store with fragments, blocks of former generations, features, timers and samples that wait, of each user."""
    store = open_store(tmp_path)
    apply_in_chunks(store, a_log(1_000), 7)
    found = {key[:1] for key, value in content(store) if of_the_user(key + value)}
    assert found == {b"u", b"a", b"f", b"b", b"t", b"o"}
    yield store
    store.close()


def test_no_key_and_no_value_tells_of_a_user_who_was_forgotten(full: SequenceStore) -> None:
    """Whoever asks to be forgotten is not."""
    others = [(key, value) for key, value in content(full) if not of_the_user(key + value) and key != b"l"]
    samples = [key for key, item in full.outbox(9_999) if isinstance(item, SampleRef) and item.user_id == GONE]
    applied = full.apply(1_000, 1_000, [Forgot(1_000, GONE)])
    assert (applied.forgotten, applied.unsent) == (1, len(samples))
    (word,) = [(key, item) for key, item in full.outbox(9_999) if isinstance(item, ForgetRef)]
    assert word == (OutboxKey(1_000, 0), ForgetRef(user_id=GONE))
    assert full.outbox(9_999)[-1] == word
    full.acknowledge([word[0]])
    assert not any(of_the_user(key + value) for key, value in content(full))
    assert [(key, value) for key, value in content(full) if key not in (b"l", b"g")] == others
    assert not any(full.is_due(key) for key in samples)
    assert not any(user_id == GONE for user_id, _ in full._prepared._ready)
    assert GONE not in full._prepared._recent


def test_counts_are_those_of_who_is_left(full: SequenceStore) -> None:
    """Gauges would drift by one with each user who goes, and ticks would be sent for timers that are not there."""
    users, timers, outbox = full.num_users, full.num_timers, full.outbox_size
    applied = full.apply(1_000, 1_000, [Forgot(1_000, GONE)])
    assert (full.num_users, full.num_timers) == (users - 1, timers - 1)
    assert full.outbox_size == outbox - applied.unsent + 1
    assert sorted(full.users()) == ["ada", f"{GONE}2"]
    assert not len(full.read(GONE))
    assert full.features(GONE) == {}


def test_no_file_of_the_next_checkpoint_tells_of_the_user(full: SequenceStore, tmp_path: Path) -> None:
    """RocksDB deletes by writing that it did: the bytes would stay until a compaction comes by, for months maybe."""
    checkpoint = full.checkpoint()
    assert any(of_the_user(file.read_bytes()) for file in checkpoint.glob("*.sst"))
    full.apply(1_000, 1_000, [Forgot(1_000, GONE)])
    full.acknowledge([OutboxKey(1_000, 0)])
    checkpoint = full.checkpoint()
    files = list(checkpoint.glob("*.sst"))
    assert files
    assert not any(of_the_user(file.read_bytes()) for file in files)
    full.close()
    restored = open_store(tmp_path)
    assert not any(of_the_user(key + value) for key, value in content(restored))
    restored.close()
    assert not any(of_the_user(file.read_bytes()) for file in (tmp_path / "p0").iterdir())


def test_a_checkpoint_after_a_restart_leaves_nothing_of_the_user_in_its_files(
    full: SequenceStore, tmp_path: Path
) -> None:
    """A worker that is killed between the record and the next checkpoint would never clear the files."""
    full.flush()
    full.apply(1_000, 1_000, [Forgot(1_000, GONE)])
    full.acknowledge([OutboxKey(1_000, 0)])
    full.close()
    again = open_store(tmp_path)
    files = list(again.checkpoint().glob("*.sst"))
    again.close()
    assert files
    assert not any(of_the_user(file.read_bytes()) for file in files)


def test_files_are_written_anew_only_after_a_user_was_forgotten(
    full: SequenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpoint would cost as much as the whole store, and be shipped as new."""
    compacted: list[int] = []
    monkeypatch.setattr(full._db, "compact", lambda: compacted.append(full.applied))
    full.checkpoint()
    full.apply(1_000, 1_000, [Forgot(1_000, GONE)])
    full.checkpoint()
    full.apply(1_001, 1_001, [Ticked(1_001, 2_000)])
    full.checkpoint()
    assert compacted == [1_000]


def test_a_record_that_comes_again_changes_nothing(full: SequenceStore) -> None:
    """What came of the user since would be forgotten with what came before."""
    full.apply(1_000, 1_001, [Forgot(1_000, GONE), acted(1_001, "new", user_id=GONE)])
    before = content(full)
    assert full.apply(1_000, 1_000, [Forgot(1_000, GONE)]).skipped == 1
    assert full.apply(0, 1_001, [*a_log(1_000), Forgot(1_000, GONE), acted(1_001, "new", user_id=GONE)]).forgotten == 0
    assert content(full) == before
    assert full.read(GONE).item_ids == ["new"]


def test_what_comes_after_begins_a_new_sequence(tmp_path: Path) -> None:
    """A sample whose range begins before would be a gap to whoever learns, or an event of before would come again."""
    store = open_store(tmp_path, sample_every=2)
    shown = exposed(0, "a", user_id=GONE, request_id="r", event_id="e0")
    store.apply(0, 2, [shown, acted(1, "a", user_id=GONE, event_id="e1"), acted(2, "a", user_id=GONE, event_id="e2")])
    after: list[Change] = [
        Forgot(3, GONE),
        acted(4, "a", user_id=GONE, request_id="r", event_id="e1"),
        acted(5, "b", user_id=GONE, event_id="e5"),
    ]
    assert store.apply(3, 5, after).duplicates == 0
    assert store.read(GONE).item_ids == ["a", "b"]
    assert store.read(GONE).shown.tolist() == [False, False]
    assert store.outbox(9) == [
        (OutboxKey(3, 0), ForgetRef(user_id=GONE)),
        (OutboxKey(5, 0), SampleRef(user_id=GONE, since=-1, num_records=2)),
    ]
    store.close()


def test_someone_who_is_not_known_can_be_forgotten(tmp_path: Path) -> None:
    """The learner may know a user of whom a store that was made anew knows nothing."""
    store = open_store(tmp_path)
    applied = store.apply(0, 0, [Forgot(0, GONE)])
    assert (applied.forgotten, store.num_users, store.num_timers, store.applied) == (1, 0, 0, 0)
    assert [item for _, item in store.outbox(9)] == [ForgetRef(user_id=GONE)]
    store.close()


def test_no_time_goes_by_with_the_request(tmp_path: Path) -> None:
    """It is made now and the records may be of years ago: all timers would fire at once."""
    store = open_store(tmp_path)
    store.apply(0, 0, [acted(0, user_id="ada")])
    store.apply(1, 1, [Forgot(1, GONE)])
    assert (store.watermark_ms, store.num_timers, store.outbox_size) == (0, 1, 1)
    store.apply(2, 2, [Ticked(2, 500)])
    assert store.outbox(9)[-1][1] == SampleRef(user_id="ada", since=-1, num_records=1)
    store.close()


def test_a_timer_that_is_gone_does_not_fire(tmp_path: Path) -> None:
    """A sample of nothing would be sent."""
    store = open_store(tmp_path)
    store.apply(0, 1, [acted(0, user_id=GONE), acted(1, user_id="ada")])
    store.apply(2, 3, [Forgot(2, GONE), Ticked(3, 10_000)])
    assert [item.user_id for _, item in store.outbox(9) if isinstance(item, SampleRef)] == ["ada"]
    assert store.num_timers == 0
    store.close()


def test_a_sequence_as_of_before_is_refused_and_not_empty(tmp_path: Path) -> None:
    """Who compares it with the log would find its events missing."""
    store = open_store(tmp_path)
    store.apply(0, 3, [acted(0, user_id=GONE), acted(1, user_id="ada"), Forgot(2, GONE), acted(3, user_id=GONE)])
    with pytest.raises(StateError, match=r"as of position 1 may have been forgotten since: read it as of 2 or later"):
        store.read(GONE, until=1)
    assert store.read("ada", until=1).item_ids == ["x"]
    assert store.read(GONE, until=2).item_ids == []
    store.close()
    again = open_store(tmp_path)
    with pytest.raises(StateError, match="may have been forgotten since"):
        again.read(GONE, until=0)
    again.close()


def test_a_chunk_is_parted_where_a_user_is_forgotten() -> None:
    """Records in columns that come after would be forgotten, too, or those before would be kept."""
    columns = columns_of([acted(offset) for offset in (0, 2, 5, 6)])
    changes: list[Change] = [Ticked(1, 0), Forgot(3, "a"), Forgot(4, "b"), Ticked(7, 0), Forgot(9, "c")]
    found = [
        ([change.offset for change in part.changes], part.records.offsets.tolist(), part.last)
        for part in parts_of(changes, columns, 12)
    ]
    assert found == [([1], [0, 2], 2), ([3], [], 3), ([4], [], 4), ([7], [5, 6], 8), ([9], [], 9), ([], [], 12)]
    assert list(parts_of([], NO_RECORDS, 5)) == [([], NO_RECORDS, 5)]


def test_columns_before_and_behind_an_offset_are_all_of_them() -> None:
    """Items would go to another record of the chunk."""
    changes: list[Acted | Exposed] = [exposed(0, "a", "b"), acted(2, "ç"), exposed(5, "dd", "e", "f")]
    whole = columns_of(changes)
    for offset in range(7):
        before, behind = whole.before(offset), whole.behind(offset - 1)
        for part, wanted in ((before, changes[: len(before)]), (behind, changes[len(before) :])):
            expected = columns_of(wanted)
            spans = [part.text[start:end].tobytes() for start, end in part.item_spans.tolist()]
            assert spans == [expected.text[start:end].tobytes() for start, end in expected.item_spans.tolist()]
            for name in ("offsets", "actions", "items", "item_hashes", "events"):
                assert getattr(part, name).tolist() == getattr(expected, name).tolist()


@pytest.mark.parametrize("size", [1, 13, 400])
def test_cuts_and_restarts_make_no_difference(tmp_path: Path, size: int) -> None:
    """State is a function of the log's prefix, of whatever kind its records are."""
    changes = a_log(400, forgets=(90, 91, 250, 399), seed=3)
    whole = open_store(tmp_path / "whole")
    whole.apply(0, 399, changes)
    cut = open_store(tmp_path / "cut")
    for start in range(0, 400, size):
        cut.apply(start, min(start + size, 400) - 1, changes[start : start + size])
        if start % 3 == 0:
            cut.close()
            cut = open_store(tmp_path / "cut")
    for user_id in (GONE, f"{GONE}2", "ada"):
        assert _told(cut, user_id) == _told(whole, user_id)
    assert cut.outbox(9_999) == whole.outbox(9_999)
    assert (cut.num_users, cut.num_timers) == (whole.num_users, whole.num_timers) == (2, 2)
    for store in (whole, cut):
        store.close()


def _told(store: SequenceStore, user_id: str) -> tuple[Any, ...]:
    events = store.read(user_id)
    return events.item_ids, events.ts_ms.tolist(), events.actions.tolist(), store.updates(user_id)

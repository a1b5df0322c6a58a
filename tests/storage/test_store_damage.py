import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from storage.changes import Change, Forgot, Ticked, Updated
from storage.database import Database, new_batch
from storage.errors import StateError
from storage.keys import (
    FORGOTTEN,
    HEADER,
    LOG,
    OutboxKey,
    fragment_key,
    fragment_prefix,
    outbox_key,
    updates_key,
    user_key,
)
from storage.sequence_store import SequenceStore
from tests.storage.plain import StoreFactory, make_changes
from tests.storage.records import acted

WHAT_TO_DO = "delete this folder: the newest checkpoint is restored"
NUM = 120


def put(database: Database, key: bytes, value: bytes) -> None:
    batch = new_batch()
    batch.put(key, value)
    database.write(batch)


def read_everything(store: SequenceStore) -> None:
    for user_id in list(store.users()):
        store.read(user_id)
        store.read_bodies(user_id, [(store.applied, store.applied - 20)], last=2)
        store.updates(user_id)
        store.features(user_id)
    store.outbox(10_000)


def test_damaged_blocks_are_an_error_and_not_an_end(store_factory: StoreFactory, tmp_path: Path) -> None:
    """RocksDB's cursor stops at a damaged block as if there were nothing more."""
    store = store_factory()
    for start in range(0, 4_000, 100):
        offsets = range(start, start + 100)
        store.apply(start, start + 99, [acted(offset, user_id=f"user{offset % 50}") for offset in offsets])
    store.close()
    for path in (tmp_path / "p0").glob("*.sst"):
        data = bytearray(path.read_bytes())
        for place in range(64, len(data) * 3 // 4, 512):
            data[place] ^= 0xFF
        path.write_bytes(data)
    with pytest.raises(StateError, match=WHAT_TO_DO):
        read_everything(store_factory())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (user_key("user0"), b"\x93\x01"),
        (user_key("user0"), msgspec.msgpack.encode(["since"])),
        (user_key("user0"), msgspec.msgpack.encode([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, -1])),
        (updates_key("user0"), b"\xc1"),
        (outbox_key(OutboxKey(1, 0)), msgspec.msgpack.encode({"type": "sample"})),
        (outbox_key(OutboxKey(1, 0)), msgspec.msgpack.encode({"type": "forget"})),
        (fragment_key(fragment_prefix(user_key("user0")), 2**40), b"\xff\0\0\0"),
        (fragment_key(fragment_prefix(user_key("user0")), 2**40), b"\0\0\0\0x"),
        (b"u\x80", b"\x90"),
    ],
    ids=[
        "torn",
        "other type",
        "negative position",
        "no message",
        "field missing",
        "user missing",
        "too few",
        "too many",
        "no text",
    ],
)
def test_values_that_cannot_be_decoded_are_damage_and_say_what_to_do(
    store_factory: StoreFactory, key: bytes, value: bytes
) -> None:
    """A decoder's own error names a byte; the operator has to know which folder to delete."""
    store = store_factory()
    store.apply(0, NUM - 1, make_changes(NUM))
    store.apply(NUM, NUM + 1, [acted(NUM, user_id="user0"), Updated(NUM + 1, "user1", 1, {"a": 1})])
    put(store._db, key, value)
    with pytest.raises(StateError, match=rf"p0 cannot be decoded: .*{WHAT_TO_DO}"):
        read_everything(store)


@pytest.mark.parametrize("key", [HEADER, LOG, outbox_key(OutboxKey(1, 0)), b"t\0\0\0\0\0\0\0\x09\xff"])
@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x93\x01", msgspec.msgpack.encode(7)])
def test_a_store_whose_values_cannot_be_decoded_is_not_opened(
    store_factory: StoreFactory, tmp_path: Path, key: bytes, value: bytes
) -> None:
    """A restart must end in a sentence, and leave the folder to whoever comes next."""
    store_factory().close()
    database = Database(tmp_path / "p0")
    put(database, key, value)
    database.close()
    with pytest.raises(StateError, match=f"p0 cannot be decoded: .*{WHAT_TO_DO}"):
        store_factory()
    Database(tmp_path / "p0").close()


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\xa17"])
def test_a_store_that_cannot_tell_who_was_forgotten_is_not_opened(store_factory: StoreFactory, value: bytes) -> None:
    """As above."""
    store = store_factory()
    store.apply(0, 0, [Forgot(0, "ada")])
    put(store._db, FORGOTTEN, value)
    store.close()
    with pytest.raises(StateError, match=f"p0 cannot be decoded: .*{WHAT_TO_DO}"):
        store_factory()


def test_a_flipped_bit_in_any_value_is_read_or_refused_in_one_sentence(
    store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything but a StateError would pass for a bug of the worker, or end it without a word of what to do."""
    monkeypatch.setattr("storage.fragments.MAX_FRAGMENTS", 3)
    monkeypatch.setattr("storage.fragments.BLOCK_ROWS", 5)
    rng = random.Random(1)
    store = store_factory(cap=20, sample_every=3, sample_exposures=5, session_gap_seconds=1.0)
    changes = make_changes(NUM)
    for start in range(0, NUM, 10):
        store.apply(start, start + 9, [change for change in changes if start <= change.offset < start + 10])
    stored = [item for item in store._db.scan(b"", b"\xff") if item[0] not in (HEADER, LOG)]
    assert {key[:1] for key, _ in stored} == {b"u", b"a", b"f", b"b", b"t", b"o"}
    num_refused = 0
    for _ in range(400):
        key, value = rng.choice(stored)
        if value:
            with flipped(store._db, key, value, rng):
                num_refused += is_refused(store)
    assert num_refused > 20


@contextlib.contextmanager
def flipped(database: Database, key: bytes, value: bytes, rng: random.Random) -> Iterator[None]:
    damaged = bytearray(value)
    damaged[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    put(database, key, bytes(damaged))
    yield
    put(database, key, value)


def is_refused(store: SequenceStore) -> bool:
    changes: list[Change] = [acted(NUM + user, user_id=f"user{user}", event_id="e0") for user in range(3)]
    try:
        read_everything(store)
        with_nothing_written(store, [*changes, Ticked(NUM + 3, 10_000)])
    except StateError as error:
        if "delete this folder" not in str(error) and "is no longer kept" not in str(error):
            raise
        return True
    return False


def with_nothing_written(store: SequenceStore, changes: list[Change]) -> None:
    """Work through a chunk as `apply` does, and leave the store as it is."""

    def fail(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store._db, "write", fail)
        with contextlib.suppress(KeyboardInterrupt):
            store.apply(NUM, NUM + 3, changes)

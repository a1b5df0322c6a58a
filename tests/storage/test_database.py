import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from storage.database import Database, new_batch
from storage.errors import StateError


def fill(folder: Path) -> Database:
    """A database whose values lie in an .sst file."""
    database = Database(folder)
    batch = new_batch()
    for number in range(5_000):
        batch.put(number.to_bytes(4, "big"), bytes([number % 251]) * 40)
    database.write(batch)
    database.checkpoint(folder.with_name("copy"))
    return database


def test_a_scan_begins_at_its_start_and_ends_before_its_end(tmp_path: Path) -> None:
    """One key too many is another user's."""
    database = fill(tmp_path / "db")
    keys = [key for key, _ in database.scan((7).to_bytes(4, "big"), (10).to_bytes(4, "big"))]
    assert [int.from_bytes(key, "big") for key in keys] == [7, 8, 9]
    assert database.get_many([b"absent", keys[0]]) == [None, b"\x07" * 40]
    assert database.get_many([]) == []
    database.close()


def test_a_scan_over_a_damaged_block_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    """RocksDB's cursor stops at a damaged block as if there were nothing more."""
    fill(tmp_path / "db").close()
    for path in (tmp_path / "db").glob("*.sst"):
        data = bytearray(path.read_bytes())
        data[len(data) // 4] ^= 0xFF
        path.write_bytes(data)
    database = Database(tmp_path / "db")
    for read in (database.scan, database.scan_back, database.values):
        with pytest.raises(StateError, match=r"cannot be read: .*; if it is damaged, delete this folder"):
            list(read(b"", b"\xff"))
    database.close()


def test_a_scan_that_is_left_early_does_not_keep_the_database_open(tmp_path: Path) -> None:
    """A lock that outlives its owner blocks the next start."""
    database = fill(tmp_path / "db")
    for _ in database.scan(b"", b"\xff"):
        break
    database.close()
    Database(tmp_path / "db").close()


def test_a_scan_back_begins_at_its_end_and_goes_down_to_its_start(tmp_path: Path) -> None:
    """Reads of the newest rows go backwards; one key too many is another user's."""
    database = fill(tmp_path / "db")
    for start, end, expected in ((7, 10, [10, 9, 8, 7]), (0, 1, [1, 0]), (4_998, 9_999, [4_999, 4_998]), (9, 8, [])):
        found = database.scan_back(start.to_bytes(4, "big"), end.to_bytes(4, "big"))
        assert [int.from_bytes(key, "big") for key, _ in found] == expected
    database.close()


def test_without_a_flush_nothing_outlives_the_process_and_with_one_all_of_it(tmp_path: Path) -> None:
    """There is no write-ahead log: a half of what was written would be no state of any log."""
    database = fill(tmp_path / "db")
    batch = new_batch()
    batch.put(b"late", b"1")
    batch.put(b"later", b"2")
    database.write(batch)
    shutil.copytree(tmp_path / "db", tmp_path / "killed", ignore=shutil.ignore_patterns("LOCK"))
    database.flush()
    shutil.copytree(tmp_path / "db", tmp_path / "flushed", ignore=shutil.ignore_patterns("LOCK"))
    database.close()
    for name, expected in (("killed", [None, None]), ("flushed", [b"1", b"2"])):
        copy = Database(tmp_path / name)
        assert copy.get_many([b"late", b"later"]) == expected
        assert copy.get((9).to_bytes(4, "big")) == b"\t" * 40
        copy.close()


def test_figures_are_rocksdbs_own_and_0_where_it_has_none(tmp_path: Path) -> None:
    """A worker's metrics may not end it."""
    database = fill(tmp_path / "db")
    assert database.figure("rocksdb.estimate-live-data-size") > 1_000
    assert database.figure("rocksdb.no-such-figure") == 0
    database.close()


def test_what_cannot_be_decoded_is_damage_and_an_arguments_fault_stays_one(tmp_path: Path) -> None:
    """A user id that is no text must not have an operator delete good state."""
    database = Database(tmp_path / "db")
    for fail in (lambda: b"\xff".decode(), lambda: (-1).to_bytes(2, "big"), lambda: msgspec.msgpack.decode(b"\xc1")):
        with pytest.raises(StateError, match=r"db cannot be decoded: .*; if it is damaged, delete this folder"):
            decode(database, fail)
    with pytest.raises(UnicodeEncodeError):
        decode(database, lambda: "\ud800".encode())
    with pytest.raises(StateError, match=r"^as it is$"):
        decode(database, lambda: fail_with(StateError("as it is")))
    database.close()


def decode(database: Database, decoder: Callable[[], object]) -> None:
    with database.decoding():
        decoder()


def fail_with(error: Exception) -> None:
    raise error

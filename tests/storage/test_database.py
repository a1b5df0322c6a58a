from pathlib import Path

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
    with pytest.raises(StateError, match=r"cannot be read: .*; if it is damaged, delete this folder"):
        list(database.scan(b"", b"\xff"))
    database.close()


def test_a_scan_that_is_left_early_does_not_keep_the_database_open(tmp_path: Path) -> None:
    """A lock that outlives its owner blocks the next start."""
    database = fill(tmp_path / "db")
    for _ in database.scan(b"", b"\xff"):
        break
    database.close()
    Database(tmp_path / "db").close()

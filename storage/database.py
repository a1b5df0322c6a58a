"""RocksDB as the sequence store uses it: raw bytes, one cache for all, and no failure that passes for an absent key."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import (
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    Checkpoint,
    CompactOptions,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from storage.errors import StateError, StateInUseError

BLOCK_CACHE_BYTES = 16 * 1024 * 1024
"""Blocks in memory, of all databases of this process together."""
WRITE_BUFFER_BYTES = 16 * 1024 * 1024
BLOCK_BYTES = 16 * 1024
"""Bytes fetched and unpacked at once: a user's rows are read together, and take some 40 kB of them."""
BLOOM_BITS = 10


class Database:
    """One RocksDB in a folder, made if absent; not `cached`, every read is from its files.

    It keeps no write-ahead log: the log that feeds it is its redo log. After a kill it is as it was when it last
    flushed, which is one moment between two batches.
    Every method raises `StateError` where the database is in use by another process, damaged, full or closed.
    """

    def __init__(self, folder: Path, *, cached: bool = True) -> None:
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._closed = False
        with self._wrapped("opened"):
            self._db = Rdict(str(folder), _options(cached))
            self._db.set_write_options(_write_options())

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        with self._wrapped("read"):
            value: bytes | None = self._db.get(key)
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values of keys, in their order."""
        wanted: list[Any] = list(keys)
        try:
            values: Any = self._db.get(wanted)
        except Exception as error:  # rocksdict raises bare Exception
            raise self._failed("read", error) from error
        return list(values)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in [start, end), ascending."""
        with self._wrapped("read"):
            cursor = self._cursor(start, end)
            try:
                while (value := cursor.value()) is not None:
                    yield cursor.key(), value
                    cursor.next()
                # A cursor ends at a damaged block as it does at the last key.
                cursor.status()
            finally:
                # An error would keep it by its traceback, and a cursor keeps its database open.
                del cursor

    def values(self, start: bytes, end: bytes) -> list[bytes]:
        """The values alone of the keys in [start, end), ascending."""
        found: list[bytes] = []
        with self._wrapped("read"):
            cursor = self._cursor(start, end)
            try:
                while (value := cursor.value()) is not None:
                    found.append(value)
                    cursor.next()
                cursor.status()
            finally:
                del cursor
        return found

    def scan_back(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in [start, end], descending."""
        with self._wrapped("read"):
            cursor = self._db.iter(ReadOptions())
            try:
                cursor.seek_for_prev(end)
                while cursor.valid() and (key := cursor.key()) >= start:
                    yield key, cursor.value()
                    cursor.prev()
                cursor.status()
            finally:
                del cursor

    def check(self) -> None:
        """Read every row there is; a damaged one is told by its block's checksum."""
        with self._wrapped("read"):
            cursor = self._db.iter(ReadOptions())
            try:
                cursor.seek_to_first()
                while cursor.valid():
                    cursor.next()
                cursor.status()
            finally:
                del cursor

    def write(self, batch: WriteBatch) -> None:
        """Write a batch, whole or not at all."""
        with self._wrapped("written"):
            self._db.write(batch)

    def flush(self) -> None:
        """Have everything written so far outlive the process."""
        with self._wrapped("flushed"):
            self._db.flush()

    def compact(self) -> None:
        """Write all files anew: what was deleted, and that it was, is in none of them from here on."""
        options = CompactOptions()
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        with self._wrapped("compacted"):
            self._db.compact_range(None, None, options)

    def figure(self, name: str) -> int:
        """A property of RocksDB that is a number, such as `rocksdb.estimate-live-data-size`; 0 where it has none."""
        with self._wrapped("read"):
            return self._db.property_int_value(name) or 0

    def checkpoint(self, folder: Path) -> None:
        """Make a copy in a folder that is not there yet, with hard links where possible."""
        with self._wrapped("copied"):
            Checkpoint(self._db).create_checkpoint(str(folder))

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if not self._closed:
            self.flush()
            self._closed = True
            self._db.close()

    def _cursor(self, start: bytes, end: bytes) -> RdictIter:
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        cursor = self._db.iter(options)
        cursor.seek(start)
        return cursor

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Raise `StateError` where a value that is decoded in this block cannot be."""
        try:
            yield
        except UnicodeEncodeError:
            raise  # an argument's, not a value's
        except (msgspec.DecodeError, ValueError, OverflowError) as error:
            raise self._unusable("decoded", error) from error

    @contextmanager
    def _wrapped(self, verb: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise self._failed(verb, error) from error

    def _failed(self, verb: str, error: Exception) -> StateError:
        """What to raise where RocksDB raised this."""
        text = str(error)
        if self._closed:
            return StateError(f"state in {self.folder} cannot be {verb}: it is closed; open it again")
        if "lock hold" in text or "lock file" in text:
            return StateInUseError(
                f"state in {self.folder} is in use by another process: stop that one, or set another folder"
            )
        return self._unusable(verb, error)

    def _unusable(self, verb: str, error: Exception) -> StateError:
        return StateError(
            f"state in {self.folder} cannot be {verb}: {error}; "
            "if it is damaged, delete this folder: the newest checkpoint is restored in its place"
        )


def new_batch() -> WriteBatch:
    """A batch for `Database.write`."""
    return WriteBatch(raw_mode=True)


def has_database(folder: Path) -> bool:
    """Whether a folder holds a database; removes one whose first opening was cut short, and refuses a damaged one."""
    if (folder / "CURRENT").exists():
        return True
    if any(folder.glob("*.sst")):
        raise StateError(f"state in {folder} is damaged: CURRENT is missing; delete this folder to restore it")
    shutil.rmtree(folder, ignore_errors=True)
    return False


@cache
def _block_cache() -> Cache:
    return Cache(BLOCK_CACHE_BYTES)


def _options(cached: bool) -> Options:
    blocks = BlockBasedOptions()
    if cached:
        blocks.set_block_cache(_block_cache())
    else:
        blocks.disable_cache()
    blocks.set_bloom_filter(BLOOM_BITS, False)
    blocks.set_block_size(BLOCK_BYTES)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_keep_log_file_num(2)
    return options


def _write_options() -> WriteOptions:
    options = WriteOptions()
    options.disable_wal = True  # type: ignore[method-assign,assignment]  # an attribute that the stub calls a method
    return options

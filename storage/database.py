"""RocksDB as the sequence store uses it: raw bytes, a small cache, scans that do not hide damage."""

from collections.abc import Iterator
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, ReadOptions

from storage.errors import StateError

BLOCK_CACHE_BYTES = 16 * 1024 * 1024
WRITE_BUFFER_BYTES = 16 * 1024 * 1024
BLOOM_BITS = 10


def open_database(folder: Path) -> Rdict:
    """Open the database in `folder`, made if absent.

    Its write-ahead log is on and never synced: after a power cut the log that feeds it is its redo log.
    Raises `StateError` where another process holds it or where it is damaged.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Rdict(str(folder), _options())
    except Exception as error:  # rocksdict raises bare Exception
        if "lock hold" in str(error) or "lock file" in str(error):
            raise StateError(
                f"state in {folder} is in use by another process: stop that one, or set another folder"
            ) from error
        raise StateError(
            f"state in {folder} cannot be opened: {error}; delete this folder to restore its newest checkpoint"
        ) from error


def scan(db: Rdict, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in [start, end), ascending; raises `StateError` where blocks between are damaged."""
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    cursor = db.iter(options)
    cursor.seek(start)
    while cursor.valid():
        yield cursor.key(), cursor.value()
        cursor.next()
    try:
        cursor.status()
    except Exception as error:  # rocksdict raises bare Exception
        raise StateError(f"state in {db.path()} is damaged: {error}; delete this folder to restore it") from error


def _options() -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    blocks.set_bloom_filter(BLOOM_BITS, False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_keep_log_file_num(2)
    return options

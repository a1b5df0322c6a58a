"""How often Python looks for garbage in cycles, and what freed memory goes back, where records stream through."""

import ctypes
import gc

NEW_CONTAINERS = 50_000
"""So many containers more than at the last look are a reason to look again; Python's own figure is 700."""
LARGE_BYTES = 4 * 1024 * 1024
"""Blocks from this size on go back to the system when they are freed; with 128 KiB a record costs a fifth more."""
_M_MMAP_THRESHOLD = -3
"""glibc's name, malloc.h."""


def collect_rarely() -> None:
    """Look for garbage in cycles seldom, and never among what is there now.

    Records wait in chunks by the ten thousand, and are in no cycle. To look at them again and again took Python 3.5 of
    the 4.4 microseconds that a record cost until it was handed out.
    """
    gc.freeze()  # nothing is looked for first: that takes a tenth of a second of each start and finds nothing
    gc.set_threshold(NEW_CONTAINERS, 20, 20)


def give_back_memory() -> bool:
    """Have large blocks go back to the system when they are freed; False where the C library knows no such setting.

    glibc raises that size by itself with the largest block that was freed, and then keeps what fetches and RocksDB's
    memtables leave behind: a fifth of a worker's memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))

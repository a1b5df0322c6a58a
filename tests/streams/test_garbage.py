import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from streams.garbage import NEW_CONTAINERS, collect_rarely


@pytest.fixture(autouse=True)
def unchanged_collector() -> Iterator[None]:
    """The tests' own process goes on as it was."""
    former = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*former)


class Cycle:
    """An object that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def test_cycles_are_still_collected_before_they_are_many() -> None:
    """A worker that never looked for them would grow for as long as it runs."""
    collect_rarely()
    gone = weakref.ref(Cycle())
    kept = [[number] for number in range(2 * NEW_CONTAINERS)]
    assert gone() is None
    assert len(kept) == 2 * NEW_CONTAINERS


def test_records_in_chunks_are_not_looked_at_for_each_few_of_them() -> None:
    """Four fifths of what a record cost went there."""
    code = (
        "import gc\nfrom streams.garbage import collect_rarely\ncollect_rarely()\n"
        "before = [each['collections'] for each in gc.get_stats()]\n"
        "chunks = [[[number] for number in range(10_000)] for _ in range(4)]\n"
        "print(sum(each['collections'] for each in gc.get_stats()) - sum(before))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == 0


def test_large_blocks_that_are_freed_go_back_to_the_system() -> None:
    """What fetches leave behind would stay with the worker: its memory would creep up for as long as it runs."""
    if not sys.platform.startswith("linux"):
        pytest.skip("glibc's malloc alone has this setting")
    code = (
        "from streams.garbage import give_back_memory\n"
        "def mb():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6\n"
        "assert give_back_memory()\n"
        "bytes(30_000_000)\n"  # from here on glibc would take what is smaller from its heap
        "before = mb()\n"
        "blocks = [bytearray(b'x') * 5_000_000 for _ in range(12)]\n"
        "last = bytearray(b'x') * 100_000\n"  # holds the heap's end
        "del blocks\n"
        "assert mb() - before < 10, mb() - before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

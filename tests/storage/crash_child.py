"""Applies a log to a store until it is killed: over and over from where it stands, or up to a line that it prints."""

import random
import sys
from pathlib import Path

from storage.changes import Change
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from tests.storage.plain import PlainRules, make_changes

NUM = 6_000
FLUSHED = 1_500
"""Records that are flushed before the child that stops is killed."""
APPLIED = 3_000
"""Records that it has applied by then."""
RULES = PlainRules(cap=60, window_ms=50, sample_every=7, sample_exposures=5, label_delay_ms=200, session_gap_ms=40)


def open_store(folder: Path) -> SequenceStore:
    """A store of small limits, so that trims are many."""
    settings = StoreSettings(folder=folder, **RULES.settings())
    return SequenceStore.open(settings, topic="events", partition=0, num_partitions=1, topic_id="t1")


def make_log() -> list[Change]:
    """The log that every child and the test apply."""
    return make_changes(NUM, seed=1, users=2)


def apply_all(store: SequenceStore, changes: list[Change], last: int) -> None:
    """Apply the records up to `last` from where the store stands."""
    start = store.applied + 1
    store.apply(start, last, [change for change in changes if start <= change.offset <= last])


def run(folder: Path, seed: int) -> None:
    """Run to the end of the log, unless killed."""
    rng = random.Random(seed)
    changes = make_log()
    store = open_store(folder)
    print("open", flush=True)
    while store.applied < NUM - 1:
        start = rng.randint(max(0, store.applied - 20), store.applied + 1)
        last = min(NUM - 1, start + rng.randrange(40))
        store.apply(start, last, [change for change in changes if start <= change.offset <= last])
        chance = rng.random()
        if chance < 0.05:
            store.checkpoint()
        elif chance < 0.15:
            store.flush()
        send(store, folder / "sent", rng.randrange(50))
    send(store, folder / "sent", NUM)
    store.close()


def stop(folder: Path) -> None:
    """Flush, apply more, and wait to be killed."""
    changes = make_log()
    store = open_store(folder)
    apply_all(store, changes, FLUSHED - 1)
    store.flush()
    for last in range(FLUSHED + 9, APPLIED, 10):
        apply_all(store, changes, last)
    send(store, folder / "sent", NUM)
    print(store.applied, flush=True)
    sys.stdin.read()


def send(store: SequenceStore, sent: Path, limit: int) -> None:
    """Write what is due to a file, then acknowledge it."""
    due = store.outbox(limit)
    with sent.open("a") as file:
        # A line that a kill tore apart must not spoil the next.
        file.writelines(f"\n{key.position} {key.n} {item!r}" for key, item in due)
    store.acknowledge(key for key, _ in due)


if __name__ == "__main__":
    if sys.argv[2] == "stop":
        stop(Path(sys.argv[1]))
    else:
        run(Path(sys.argv[1]), int(sys.argv[2]))

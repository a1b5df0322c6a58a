"""Applies the same log over and over from where the store stands, until it is killed or at the end."""

import random
import sys
from pathlib import Path

from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from tests.storage.plain import make_changes

NUM = 6_000


def settings(folder: Path) -> StoreSettings:
    """The smallest limits, so that pruning happens often."""
    return StoreSettings(folder=folder, cap=1_012, sample_every=7, sample_exposures=5)


def main(folder: Path, seed: int) -> None:
    """Run to the end of the log, unless killed."""
    rng = random.Random(seed)
    changes = make_changes(NUM, seed=1, users=2)
    store = SequenceStore.open(settings(folder), topic="events", partition=0, num_partitions=1, topic_id="t1")
    print("open", flush=True)
    while store.applied < NUM - 1:
        start = rng.randint(max(0, store.applied - 20), store.applied + 1)
        last = min(NUM - 1, start + rng.randrange(40))
        store.apply(start, last, [change for change in changes if start <= change.offset <= last])
        if rng.random() < 0.1:
            store.checkpoint()
        send(store, folder / "sent", rng.randrange(50))
    send(store, folder / "sent", NUM)
    store.close()


def send(store: SequenceStore, sent: Path, limit: int) -> None:
    """Write what is due to a file, then acknowledge it."""
    due = store.outbox(limit)
    with sent.open("a") as file:
        # A line that a kill tore apart must not spoil the next.
        file.writelines(f"\n{key.position} {item!r}" for key, item in due)
    store.acknowledge(key for key, _ in due)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""Damages the values of a store's database, one at a time: each must be read or refused with a `StateError`.

python -m tests.storage.fuzz_store --examples 20000 --seed 1
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest import mock

from storage.changes import Forgot
from storage.keys import HEADER, LOG
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from tests.storage.plain import make_changes
from tests.storage.test_store_damage import NUM, is_refused, put


def made_store(folder: Path) -> SequenceStore:
    """A store that holds values of every kind: fragments and blocks, pending rows, timers, updates, an outbox."""
    settings = StoreSettings(folder=folder, cap=20, sample_every=3, sample_exposures=5, session_gap_seconds=1.0)
    store = SequenceStore.open(settings, topic="events", partition=0, num_partitions=2, topic_id="t1")
    changes = make_changes(NUM)
    for start in range(0, NUM, 10):
        store.apply(start, start + 9, [change for change in changes if start <= change.offset < start + 10])
    store.apply(NUM, NUM, [Forgot(NUM, "someone")])
    return store


def damaged(rng: random.Random, value: bytes) -> bytes:
    """The value with a bit flipped, bytes put in the place of others, cut, or longer."""
    changed = bytearray(value)
    place = rng.randrange(len(value))
    kind = rng.randrange(4)
    if kind == 0:
        changed[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        changed[place : place + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
    elif kind == 2:
        del changed[place:]
    else:
        changed += rng.randbytes(rng.randrange(1, 20))
    return bytes(changed)


def fuzz(store: SequenceStore, num_examples: int, seed: int) -> Counter[str]:
    """How so many damages were taken, by the first letter of the key; raises what is no `StateError`."""
    rng = random.Random(seed)
    stored = [item for item in store._db.scan(b"", b"\xff") if item[0] not in (HEADER, LOG) and item[1]]
    taken: Counter[str] = Counter()
    for _ in range(num_examples):
        key, value = rng.choice(stored)
        worse = damaged(rng, value)
        put(store._db, key, worse)
        try:
            taken[f"{chr(key[0])} {'refused' if is_refused(store) else 'read'}"] += 1
        except Exception as error:
            error.add_note(f"key {key!r}: {value!r} became {worse!r}")
            raise
        put(store._db, key, value)
    return taken


def main() -> None:
    """Fuzz one store and print how its damages were taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    small = mock.patch.multiple("storage.fragments", MAX_FRAGMENTS=3, BLOCK_ROWS=5)
    with tempfile.TemporaryDirectory() as folder, small:
        store = made_store(Path(folder))
        began = time.perf_counter()
        taken = fuzz(store, given.examples, given.seed)
        store.close()
    ways = ", ".join(f"{way} {count:,}" for way, count in sorted(taken.items()))
    print(f"{given.examples:,} damages in {time.perf_counter() - began:.0f} s: {ways}")


if __name__ == "__main__":
    main()

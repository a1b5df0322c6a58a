"""A process that warms up, then works a log into a store; prints which functions were compiled only then."""

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from numba.core.dispatcher import Dispatcher

import storage
import streams
from storage.changes import SampleRef
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.decoding import ChunkDecoder
from streams.events import Action, Impression, encode_event
from streams.sampling import build_samples
from streams.warm_up import warm_up

ACTIONS = ("click", "like")
RECORDS = 400
CHUNK = 20


class Record(NamedTuple):
    """What the decoder takes of a Kafka record."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int


def compiled_functions() -> Iterator[tuple[str, Any]]:
    for package in (storage, streams):
        for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, value in vars(importlib.import_module(each.name)).items():
                if isinstance(value, Dispatcher):
                    yield f"{each.name}.{name}", value


def record(number: int) -> Record:
    """Short and long ids, repeated event ids, values, actions out of order."""
    user = f"user {number % 3}" * (30 if number % 5 == 0 else 1)
    event: Impression | Action
    if number % 4 == 0:
        items = [f"i{number}", f"i{number + 1}"]
        event = Impression(
            user_id=user, ts_ms=number * 10, items=items, request_id=f"r{number}", event_id=f"e{number // 2}"
        )
    else:
        value = number / 2 if number % 3 else None
        event = Action(
            user_id=user, ts_ms=number * 9, item_id=f"i{number - 1}", action=ACTIONS[number % 2], value=value
        )
    return Record(number, user.encode(), encode_event(event), number)


def opened(folder: Path) -> SequenceStore:
    settings = StoreSettings(folder=folder, actions=ACTIONS, cap=64, sample_every=3, sample_exposures=10)
    store = SequenceStore.open(settings, topic="t", partition=0, num_partitions=1, topic_id="t")
    store.prepare_samples(8)
    return store


def work(folder: Path) -> None:
    """Apply, send, read, and open again now and then."""
    store, decoder = opened(folder), ChunkDecoder(ACTIONS)
    for first in range(0, RECORDS, CHUNK):
        store.apply(first, first + CHUNK - 1, *decoder.decode([record(first + place) for place in range(CHUNK)]))
        items = store.outbox(50)
        by_user: dict[str, list[tuple[OutboxKey, SampleRef]]] = {}
        for key, item in items:
            assert isinstance(item, SampleRef)
            by_user.setdefault(item.user_id, []).append((key, item))
        for due in by_user.values():
            build_samples(store, due, 8)
        store.acknowledge([key for key, _ in items[:10]])
        for user in ("user 0", "user 1", "nobody"):
            store.read(user)
            store.read(user, last=5, since=3)
        if first % 100 == 0:
            store.close()
            store = opened(folder)
    store.close()


def main(folder: Path) -> None:
    warm_up(ACTIONS)
    before = {name: len(each.signatures) for name, each in compiled_functions()}
    assert sum(before.values()) > 0
    work(folder)
    print(*(name for name, each in compiled_functions() if len(each.signatures) > before[name]), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

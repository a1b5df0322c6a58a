"""Records in columns, made from changes, and two of them made one."""

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise

import numpy as np
import xxhash

from storage.changes import Acted, Exposed
from storage.records import Hashes, Int64s, Records

_NAN = float("nan")


def columns_of(changes: Sequence[Acted | Exposed]) -> Records:
    """The columns of changes that are in the order of the log."""
    count = len(changes)
    users = [change.user_id.encode() for change in changes]
    item_ids = [(change.item_id,) if isinstance(change, Acted) else change.item_ids for change in changes]
    items = [item_id.encode() for item_id in chain.from_iterable(item_ids)]
    spans = _spans([*users, *items])
    values = [_NAN if change.value is None else change.value for change in changes]
    return Records(
        text=np.frombuffer(bytearray().join([*users, *items]), np.uint8),
        offsets=np.array([change.offset for change in changes], np.int64),
        ts_ms=np.array([change.ts_ms for change in changes], np.int64),
        kafka_ms=np.array([change.kafka_ms for change in changes], np.int64),
        users=spans[:count],
        actions=np.array([change.action for change in changes], np.int64),
        values=np.array(values, np.float64),
        events=_hashes([change.event_id for change in changes]),
        requests=_hashes([change.request_id for change in changes]),
        items=np.fromiter(accumulate(map(len, item_ids), initial=0), np.int64, count + 1),
        item_spans=spans[count:],
        item_hashes=np.array([xxhash.xxh3_64_intdigest(item) for item in items], np.uint64),
    )


def _spans(texts: Sequence[bytes]) -> Int64s:
    return np.array(list(pairwise(accumulate(map(len, texts), initial=0))), np.int64).reshape(-1, 2)


def _hashes(ids: Sequence[str | None]) -> Hashes:
    return np.array([xxhash.xxh3_64_intdigest(id_.encode()) if id_ else 0 for id_ in ids], np.uint64)


def merge(first: Records, second: Records) -> Records:
    """The records of both, sorted by offset."""
    if not len(second):
        return first
    if not len(first):
        return second
    offsets = np.concatenate([first.offsets, second.offsets])
    order = np.argsort(offsets)
    shift = len(first.text)
    sizes = np.concatenate([np.diff(first.items), np.diff(second.items)])
    begins = np.concatenate([first.items[:-1], second.items[:-1] + first.items[-1]])[order]
    ends = np.cumsum(sizes[order])
    items = np.concatenate([np.zeros(1, np.int64), ends])
    item_order = np.arange(items[-1]) + np.repeat(begins - items[:-1], sizes[order])
    return Records(
        text=np.concatenate([first.text, second.text]),
        offsets=offsets[order],
        ts_ms=np.concatenate([first.ts_ms, second.ts_ms])[order],
        kafka_ms=np.concatenate([first.kafka_ms, second.kafka_ms])[order],
        users=np.concatenate([first.users, second.users + shift])[order],
        actions=np.concatenate([first.actions, second.actions])[order],
        values=np.concatenate([first.values, second.values])[order],
        events=np.concatenate([first.events, second.events])[order],
        requests=np.concatenate([first.requests, second.requests])[order],
        items=items,
        item_spans=np.concatenate([first.item_spans, second.item_spans + shift])[item_order],
        item_hashes=np.concatenate([first.item_hashes, second.item_hashes])[item_order],
    )


NO_RECORDS = columns_of([])
"""The columns of a chunk without impressions and actions."""

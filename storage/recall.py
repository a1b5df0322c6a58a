"""A user's newest events as `storage.recent` keeps them, from what was read of the user."""

import numpy as np

from storage.names import Names
from storage.reading import Found
from storage.recent import EVENT, FLAGS, FRESH, GROUP, HEAD, ITEM, MASK_SHIFT, REQUEST, SHOWN, TS, VALUE
from storage.records import Int64s
from storage.sample_body import body_of
from storage.user_state import NOTHING_REACHED


def recall(found: Found, names: Names, *, since: int, last_ts: int) -> bytes:
    """What was read of a user whose newest records are read, too; `since` is the position of the last sample."""
    fold = found.fold
    heads, before = fold.heads[found.start :], fold.heads[: found.start]
    columns = fold.columns(heads, since)
    body = body_of(columns, since)
    rows = fold.entries.rows
    events = np.empty((len(heads), EVENT), np.int64)
    events[:, TS] = columns.ts_ms
    events[:, GROUP] = columns.groups
    events[:, REQUEST] = np.where(columns.shown, rows["request"][heads].astype(np.uint64).view(np.int64), 0)
    events[:, ITEM] = _names(found, heads, names)
    events[:, FLAGS] = columns.actions << MASK_SHIFT | columns.shown * SHOWN | np.array(body.new, np.int64) & FRESH
    values = np.empty((len(body.values), VALUE), np.int64)
    values[:, 0], values[:, 1] = body.value_places, body.value_actions
    values[:, 2] = np.array(body.values, np.float64).view(np.int64)
    requests = np.unique(rows["request"][fold.action >= 0].astype(np.uint64))
    requests = requests[requests != 0].view(np.int64)
    passed = fold.ts_ms[before[fold.action[before] < 0]]
    blind_ts = max([found.reach if found.exposures else NOTHING_REACHED, *passed[-1:].tolist()])
    head = [len(heads), len(body.kafka_ms), len(values), len(requests), last_ts, blind_ts]
    assert len(head) == HEAD
    parts = (np.array(head, np.int64), events, np.array(body.kafka_ms, np.int64), values, requests)
    return b"".join(part.tobytes() for part in parts)


def _names(found: Found, heads: Int64s, names: Names) -> Int64s:
    entries = found.fold.entries
    ends = np.cumsum(entries.rows["item_bytes"], dtype=np.int64)
    spans = np.stack((ends - entries.rows["item_bytes"], ends), axis=1)[heads]
    text = np.frombuffer(bytearray(entries.items), np.uint8)
    return names.numbers_of(text, spans, entries.rows["item"][heads].astype(np.uint64))

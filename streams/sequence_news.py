"""A user's sequence for who holds a former state of it: what is new, or the whole where that cannot be told.

```
reader: since=POSITION, digest=D of what it holds          worker: as of now it is
                                                           D                 -> nothing new
                                                           as of POSITION, D -> events from the first that differs on
                                                           neither           -> all events
```
An earlier event changes when an action is folded onto it, when it is trimmed, forgotten or overtaken. That the digests
agree is all that is relied on, whichever worker is asked, and whatever became of the log meanwhile.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import xxhash

from storage.errors import StateError
from storage.sequence_store import SequenceStore
from streams.sequence_columns import sequence_columns

EVENT_COLUMNS = ("item_ids", "ts_ms", "actions", "values", "groups", "indexes")
DIGEST_LETTERS = 32

Columns = dict[str, Any]
_encoder = msgspec.msgpack.Encoder()


def sequence_news(store: SequenceStore, user_id: str, since: int, digest: str) -> Columns:
    """`sequence_columns` without its first `kept` events, which are those of the reader's, and with its `digest`.

    `since` is a position up to which the reader has read, and `digest` what came with that; empty for nothing.
    """
    now = sequence_columns(store, user_id)
    now_digest = digest_of(now)
    if digest == now_digest:
        kept = len(now["item_ids"])
    else:
        kept = _num_equal(_as_of(store, user_id, since, digest), now) if digest else 0
    events = {name: now[name][kept:] for name in EVENT_COLUMNS}
    return now | events | {"kept": kept, "digest": now_digest}


def digest_of(columns: Columns) -> str:
    """Stands for all that is told of a user, wherever that is: the XXH3 hash of 128 bits."""
    told = (*EVENT_COLUMNS, "valued", "features", "feature_segments")
    return xxhash.xxh3_128_hexdigest(_encoder.encode([columns[name] for name in told]))


def _as_of(store: SequenceStore, user_id: str, since: int, digest: str) -> Columns | None:
    """What the reader holds; None where that can no longer be told."""
    try:
        before = sequence_columns(store, user_id, until=since)
    except StateError:
        return None
    return before if digest_of(before) == digest else None


def _num_equal(before: Columns | None, now: Columns) -> int:
    if before is None:
        return 0
    pairs = zip(_events(before), _events(now), strict=False)
    kept = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
    return min(len(before["item_ids"]), len(now["item_ids"])) if kept is None else kept


def _events(columns: Columns) -> Iterator[tuple[Any, ...]]:
    return zip(*(columns[name] for name in EVENT_COLUMNS), strict=True)

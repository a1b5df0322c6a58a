"""Records in columns, read back to compare them."""

import math
from itertools import pairwise
from typing import Any

from storage.records import Records


def rows_of(records: Records) -> list[tuple[Any, ...]]:
    """All that the columns say of each record, ids as bytes; None for a value that is not there."""
    text = records.text.tobytes()
    items = [text[begin:end] for begin, end in records.item_spans.tolist()]
    hashes = records.item_hashes.tolist()
    bounds = records.items.tolist()
    assert bounds[0] == 0
    assert bounds[-1] == len(items) == len(hashes)
    columns = (
        records.offsets.tolist(),
        records.ts_ms.tolist(),
        records.kafka_ms.tolist(),
        [text[begin:end] for begin, end in records.users.tolist()],
        records.actions.tolist(),
        # As text, which tells a negative zero.
        [None if math.isnan(value) else repr(value) for value in records.values.tolist()],
        records.events.tolist(),
        records.requests.tolist(),
        [items[begin:end] for begin, end in pairwise(bounds)],
        [hashes[begin:end] for begin, end in pairwise(bounds)],
    )
    return list(zip(*columns, strict=True))


def types_of(records: Records) -> list[tuple[str, int, bool, bool]]:
    """What compiled functions tell arrays apart by: type, dimensions, whether they are of one piece and writable."""
    arrays = [getattr(records, name) for name in Records.__slots__]
    return [(str(a.dtype), a.ndim, a.flags.c_contiguous, a.flags.writeable) for a in arrays]

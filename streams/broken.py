"""Records that break a rule each, for demonstrations and tests: what the worker must refuse and go on after."""

import json
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from streams.events import Cause

BrokenRecord = tuple[bytes | None, bytes, Cause]
"""Key and value of a record, and the cause for which it is refused."""

_USER = "17"


def broken_records(now_ms: int, count: int) -> Iterator[BrokenRecord]:
    """So many broken records, one kind after the other; `now_ms` is about their Kafka time."""
    return islice(cycle(_kinds(now_ms)), count)


def _kinds(now_ms: int) -> list[BrokenRecord]:
    key = _USER.encode()
    long_id = "x" * 257
    return [
        (key, b'{"type": "action", "user_id": "17", ', "malformed_json"),
        (key, _action(now_ms, item_id=None), "missing_field"),
        (key, _action(now_ms, ts_ms="yesterday"), "wrong_type"),
        (key, _action(now_ms, action="teleport"), "unknown_action"),
        (b"", _action(now_ms, user_id=""), "id_length"),
        (long_id.encode(), _action(now_ms, user_id=long_id), "id_length"),
        (key, _action(now_ms, item_id=""), "id_length"),
        (key, _action(now_ms, item_id=long_id), "id_length"),
        (key, _impression(now_ms, 0), "items_length"),
        (key, _impression(now_ms, 1_001), "items_length"),
        (key, _action(now_ms, ts_ms=now_ms + 2 * 3_600_000), "future_time"),
        (key, _action(now_ms, value=float("nan")), "not_finite"),
        (b"", _action(now_ms), "empty_key"),
        (key, b"\x87\xa4type\xa6action", "malformed_msgpack"),
        (key, _action(now_ms, item_id="y" * 900 * 1024), "too_large"),
    ]


def _action(now_ms: int, **changed: Any) -> bytes:
    fields = {
        "type": "action",
        "event_id": "broken",
        "user_id": _USER,
        "item_id": "1",
        "ts_ms": now_ms,
        "action": "like",
        **changed,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def _impression(now_ms: int, num_items: int) -> bytes:
    items = [str(number) for number in range(num_items)]
    fields = {"type": "impression", "event_id": "broken", "user_id": _USER, "ts_ms": now_ms, "items": items}
    return json.dumps(fields).encode()

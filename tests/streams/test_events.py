import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.broken import broken_records
from streams.events import (
    MAX_EVENT_BYTES,
    MAX_FUTURE_MS,
    MAX_ITEMS,
    Action,
    Event,
    Impression,
    InvalidEventError,
    Tick,
    UserUpdate,
    check_event,
    decode_event,
    encode_event,
    event_schema,
)

NOW_MS = 1_700_000_000_000
ACTIONS = frozenset({"like", "click"})
EVENTS: list[tuple[Event, bytes]] = [
    (
        Impression(event_id="e1", user_id="ü", ts_ms=5, items=["a"], context={"n": 1}),
        b'{"type":"impression","event_id":"e1","ts_ms":5,"user_id":"\xc3\xbc","items":["a"],"context":{"n":1}}',
    ),
    (
        Action(event_id="e2", user_id="u", ts_ms=6, item_id="a", action="like", value=4.5),
        b'{"type":"action","event_id":"e2","ts_ms":6,"user_id":"u","item_id":"a","action":"like","value":4.5}',
    ),
    (
        UserUpdate(event_id="e3", user_id="u", ts_ms=7, features={"age": 31, "paid": True}),
        b'{"type":"user_update","event_id":"e3","ts_ms":7,"user_id":"u","features":{"age":31,"paid":true}}',
    ),
    (Tick(event_id="e4", ts_ms=8), b'{"type":"tick","event_id":"e4","ts_ms":8}'),
]


@pytest.mark.parametrize(("event", "encoded"), EVENTS)
def test_events_keep_their_bytes(event: Event, encoded: bytes) -> None:
    """Producers of one version are not understood by workers of another."""
    assert encode_event(event) == encoded
    key = None if isinstance(event, Tick) else event.user_id.encode()
    assert decode_event(key, encoded, NOW_MS, ACTIONS) == event


def test_fields_of_newer_producers_are_passed_over() -> None:
    """Every worker has to be upgraded before the first producer is."""
    event = {"type": "action", "event_id": "e", "ts_ms": 1, "user_id": "u", "item_id": "i", "action": "like"}
    decoded = decode_event(b"u", json.dumps({**event, "mood": "good"}).encode(), NOW_MS, ACTIONS)
    assert isinstance(decoded, Action)


@pytest.mark.parametrize(("key", "value", "cause"), list(broken_records(NOW_MS, 14)))
def test_each_broken_record_has_its_cause(key: bytes, value: bytes, cause: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        decode_event(key, value, NOW_MS, ACTIONS)
    assert caught.value.cause == cause


def _action(**changed: Any) -> bytes:
    event = {"type": "action", "event_id": "e", "ts_ms": 1, "user_id": "u", "item_id": "i", "action": "like"}
    return json.dumps({**event, **changed}).encode()


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        (b"v", _action(), "wrong_key"),
        (None, _action(), "empty_key"),
        (b"u", None, "malformed_json"),
        (b"u", b"", "malformed_json"),
        (b"u", b'{"type":"action","event_id":"\xff"}', "malformed_json"),
        (b"u", b"[" * 100_000, "wrong_type"),
        (b"u", b'{"type":"tick","event_id":"e","ts_ms":1,"x":' + b"[" * 100_000, "malformed_json"),
        (b"u", _action(type="purchase"), "unknown_type"),
        (b"u", _action(v=2), "unknown_version"),
        (b"u", _action(v=0), "out_of_range"),
        (b"u", _action(ts_ms=-1), "out_of_range"),
        (b"u", _action(ts_ms=10**18), "out_of_range"),
        (b"u", _action(value=math.inf), "not_finite"),
        (b"u", _action(value="1"), "wrong_type"),
        (b"u", _action().replace(b'"i"', b'"\\ud800"'), "malformed_json"),
        (b"u", _action(type="user_update", features={str(n): n for n in range(65)}), "out_of_range"),
        (b"u", _action(type="user_update", features={"n": 2**63}), "out_of_range"),
        (b"u", _action(request_id="é" * 129), "id_length"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_cause(key: bytes | None, value: bytes | None, cause: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        decode_event(key, value, NOW_MS, ACTIONS)
    assert caught.value.cause == cause


def test_limits_are_inclusive() -> None:
    longest = "é" * 128
    items = [longest] * MAX_ITEMS
    event = Impression(event_id=longest, user_id=longest, ts_ms=NOW_MS + MAX_FUTURE_MS, items=items[:400])
    assert decode_event(longest.encode(), encode_event(event), NOW_MS, ACTIONS) == event
    full = _action().ljust(MAX_EVENT_BYTES)
    assert isinstance(decode_event(b"u", full, NOW_MS, ACTIONS), Action)
    with pytest.raises(InvalidEventError, match=f"value must be 1 to {MAX_EVENT_BYTES} bytes"):
        decode_event(b"u", full + b" ", NOW_MS, ACTIONS)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Action(event_id="e", user_id="", ts_ms=1, item_id="i", action="like"), "user_id must be 1 to 256 bytes"),
        (Impression(event_id="e", user_id="u", ts_ms=1, items=[]), "items must hold 1 to 1000 ids, got 0"),
        (Impression(event_id="e", user_id="u", ts_ms=1, items=["i"], context={"n": math.nan}), "must be finite"),
        (Action(event_id="e", user_id="u", ts_ms=-1, item_id="i", action="like"), "ts_ms must be 0 to"),
        (UserUpdate(event_id="e", user_id="u", ts_ms=1, features={"n": 2**70}), "must fit 64 bits"),
    ],
)
def test_a_producer_is_told_before_it_sends(event: Event, message: str) -> None:
    """What a producer's own process builds is not checked by decoding."""
    with pytest.raises(ValueError, match=message):
        check_event(event)


@settings(max_examples=200, deadline=None)
@given(key=st.none() | st.binary(max_size=20), value=st.none() | st.binary(max_size=200))
def test_no_bytes_raise_anything_else(key: bytes | None, value: bytes | None) -> None:
    """One poisoned record ends the worker, again at each restart."""
    try:
        decode_event(key, value, NOW_MS, ACTIONS)
    except InvalidEventError as error:
        str(error).encode()


def test_the_schema_describes_every_type() -> None:
    schema = event_schema()
    assert schema["version"] == 1
    assert set(schema["$defs"]) == {"Impression", "Action", "UserUpdate", "Tick"}

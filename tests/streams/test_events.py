import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.broken import broken_records
from streams.events import (
    MAX_EVENT_BYTES,
    MAX_FUTURE_MS,
    MAX_ITEMS,
    Action,
    Event,
    Forget,
    Impression,
    InvalidEventError,
    Tick,
    UserUpdate,
    check_event,
    decode_event,
    decode_value,
    encode_event,
)

NOW_MS = 1_700_000_000_000
ACTIONS = frozenset({"like", "click"})
EVENTS: list[tuple[Event, bytes, bytes]] = [
    (
        Impression(event_id="e1", user_id="ü", ts_ms=5, items=["a"], context={"n": 1}),
        b'{"type":"impression","event_id":"e1","ts_ms":5,"user_id":"\xc3\xbc","items":["a"],"context":{"n":1}}',
        (
            b"\x86\xa4type\xaaimpression\xa8event_id\xa2e1\xa5ts_ms\x05\xa7user_id\xa2\xc3\xbc\xa5items\x91\xa1a"
            b"\xa7context\x81\xa1n\x01"
        ),
    ),
    (
        Action(event_id="e2", user_id="u", ts_ms=6, item_id="a", action="like", value=4.5),
        b'{"type":"action","event_id":"e2","ts_ms":6,"user_id":"u","item_id":"a","action":"like","value":4.5}',
        (
            b"\x87\xa4type\xa6action\xa8event_id\xa2e2\xa5ts_ms\x06\xa7user_id\xa1u\xa7item_id\xa1a\xa6action\xa4like"
            b"\xa5value\xcb@\x12\x00\x00\x00\x00\x00\x00"
        ),
    ),
    (
        UserUpdate(event_id="e3", user_id="u", ts_ms=7, features={"age": 31, "paid": True}),
        b'{"type":"user_update","event_id":"e3","ts_ms":7,"user_id":"u","features":{"age":31,"paid":true}}',
        (
            b"\x85\xa4type\xabuser_update\xa8event_id\xa2e3\xa5ts_ms\x07\xa7user_id\xa1u"
            b"\xa8features\x82\xa3age\x1f\xa4paid\xc3"
        ),
    ),
    (
        Tick(event_id="e4", ts_ms=8),
        b'{"type":"tick","event_id":"e4","ts_ms":8}',
        b"\x83\xa4type\xa4tick\xa8event_id\xa2e4\xa5ts_ms\x08",
    ),
    (
        Action(user_id="u", ts_ms=6, item_id="a", action="like"),
        b'{"type":"action","ts_ms":6,"user_id":"u","item_id":"a","action":"like"}',
        b"\x85\xa4type\xa6action\xa5ts_ms\x06\xa7user_id\xa1u\xa7item_id\xa1a\xa6action\xa4like",
    ),
    (
        Forget(event_id="e5", user_id="u", ts_ms=9),
        b'{"type":"forget","event_id":"e5","ts_ms":9,"user_id":"u"}',
        b"\x84\xa4type\xa6forget\xa8event_id\xa2e5\xa5ts_ms\x09\xa7user_id\xa1u",
    ),
]


@pytest.mark.parametrize(("event", "as_json", "as_msgpack"), EVENTS)
def test_events_keep_their_bytes(event: Event, as_json: bytes, as_msgpack: bytes) -> None:
    """Producers of one version are not understood by workers of another."""
    key = None if isinstance(event, Tick) else event.user_id.encode()
    assert encode_event(event) == as_json
    assert encode_event(event, "msgpack") == as_msgpack
    assert decode_event(key, as_json, NOW_MS, ACTIONS) == event
    assert decode_event(key, as_msgpack, NOW_MS, ACTIONS) == event


def test_every_form_of_a_messagepack_map_is_read() -> None:
    """Clients of other languages write long maps where a short one would do."""
    encoded = encode_event(EVENTS[4][0], "msgpack")
    for begin in (b"\x85", b"\xde\x00\x05", b"\xdf\x00\x00\x00\x05"):
        assert decode_event(b"u", begin + encoded[1:], NOW_MS, ACTIONS) == EVENTS[4][0]


def test_an_event_id_may_be_null() -> None:
    """Producers without ids of their own would have to invent some."""
    event = decode_event(b"u", _action(event_id=None), NOW_MS, ACTIONS)
    assert event.event_id is None


def test_a_topic_of_one_type_needs_no_type_in_its_values() -> None:
    """Producers that keep impressions and actions apart have no field `type`."""
    value = b'{"user_id":"u","item_id":"i","action":"like","ts_ms":1}'
    assert isinstance(decode_value(value, NOW_MS, ACTIONS, "action"), Action)
    for kind, cause in (("impression", "missing_field"), ("event", "missing_field")):
        with pytest.raises(InvalidEventError) as caught:
            decode_value(value, NOW_MS, ACTIONS, kind)  # type: ignore[arg-type]  # mypy widens the pairs to str
        assert caught.value.cause == cause
    with pytest.raises(InvalidEventError) as caught:
        decode_value(_action(), NOW_MS, ACTIONS, "impression")
    assert caught.value.cause == "unknown_type"


def test_fields_of_newer_producers_are_passed_over() -> None:
    """Every worker has to be upgraded before the first producer is."""
    event = {"type": "action", "event_id": "e", "ts_ms": 1, "user_id": "u", "item_id": "i", "action": "like"}
    decoded = decode_event(b"u", json.dumps({**event, "mood": "good"}).encode(), NOW_MS, ACTIONS)
    assert isinstance(decoded, Action)


@pytest.mark.parametrize(("key", "value", "cause"), list(broken_records(NOW_MS, 15)))
def test_each_broken_record_has_its_cause(key: bytes, value: bytes, cause: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        decode_event(key, value, NOW_MS, ACTIONS)
    assert caught.value.cause == cause


def _action(**changed: Any) -> bytes:
    event = {"type": "action", "event_id": "e", "ts_ms": 1, "user_id": "u", "item_id": "i", "action": "like"}
    return json.dumps({**event, **changed}).encode()


def _packed(**changed: Any) -> bytes:
    event = {"type": "action", "event_id": "e", "ts_ms": 1, "user_id": "u", "item_id": "i", "action": "like", "v": 1}
    return msgspec.msgpack.encode({**event, **changed})


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
        (b"u", _action(type="impression", items=["é" * 129]), "id_length"),
        (b"u", _action(type="impression", items=["i"], context={"é" * 129: 1}), "id_length"),
        (b"u", _action(event_id=""), "id_length"),
        (b"u", _packed(value=math.nan), "not_finite"),
        (b"u", _packed(value=-math.inf), "not_finite"),
        (b"u", _packed(type="user_update", features={"n": math.inf}), "not_finite"),
        (b"u", _packed(type="user_update", features={"n": 2**63}), "out_of_range"),
        (b"u", _packed(user_id=b"u"), "wrong_type"),
        (b"u", _packed(ts_ms=5.0), "wrong_type"),
        (b"u", _packed()[:-1], "malformed_msgpack"),
        (b"u", _packed() + b"\0", "malformed_msgpack"),
        (b"u", b"\x80", "missing_field"),
        (b"u", b"\x81\x01\x01", "wrong_type"),
        (b"u", b"\xdf\xff\xff\xff\xff", "malformed_msgpack"),
        (b"u", _packed(item_id="XX").replace(b"XX", b"\xed\xa0"), "malformed_msgpack"),
        (b"u", b"\x88" + _packed()[1:] + b"\xa1x" + b"\x91" * 100_000, "malformed_msgpack"),
        (b"u", b"\x91" + _packed(), "malformed_json"),
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
        (UserUpdate(user_id="u", ts_ms=1, features={"n": 10**5000}), "must fit 64 bits"),
        (UserUpdate(user_id="u", ts_ms=1, features={}), "features must hold 1 to 64, got 0"),
        (Impression(user_id="u", ts_ms=1, items=["i"], context={"": 1}), "names in context must be 1 to 256 bytes"),
        (Action(user_id="u", ts_ms=1, item_id="\ud800", action="like"), "item_id must be text that UTF-8 can hold"),
        (Action(user_id="u", ts_ms=1, item_id="i", action="like", v=2), "v must be <= 1, got 2"),
        (Action(user_id="u", ts_ms=1, item_id="i", action="like", v=0), "v must be >= 1, got 0"),
        (Action(user_id="u", ts_ms=1, item_id="i", action="like", value=True), "value must be a number, got True"),
        (Action(user_id=5, ts_ms=1, item_id="i", action="like"), "user_id must be text, got 5"),  # type: ignore[arg-type]  # on purpose
        (Action(user_id="u", ts_ms=1.5, item_id="i", action="like"), "ts_ms must be an int"),  # type: ignore[arg-type]  # on purpose
        (UserUpdate(user_id="u", ts_ms=1, features={"n": None}), "expected a number, got None"),  # type: ignore[dict-item]  # on purpose
    ],
)
def test_a_producer_is_told_before_it_sends(event: Event, message: str) -> None:
    """What a producer's own process builds is not checked by decoding."""
    with pytest.raises(ValueError, match=message):
        check_event(event)


_IDS = st.text(max_size=300)
_FEATURES = st.dictionaries(_IDS, _IDS | st.integers() | st.floats() | st.booleans(), max_size=70)
_NUMBERS = st.none() | st.floats() | st.integers()
_BASE = {"event_id": st.none() | _IDS, "user_id": _IDS, "ts_ms": st.integers(-5, 2**48)}


@settings(max_examples=150, deadline=None)
@given(
    event=st.builds(
        Action, **_BASE, item_id=_IDS, action=st.just("like"), value=st.none() | st.floats() | st.integers()
    )
    | st.builds(Impression, **_BASE, items=st.lists(_IDS, max_size=5), request_id=st.none() | _IDS, context=_FEATURES)
    | st.builds(UserUpdate, **_BASE, features=_FEATURES)
    | st.builds(Forget, **_BASE)
)
@example(event=Action(user_id="u", ts_ms=0, item_id="i", action="like", value=2**53 + 1))
def test_what_a_producer_accepts_a_worker_accepts(event: Action | Impression | UserUpdate | Forget) -> None:
    """A producer is told of its fault by nobody, and the event ends as a dead letter."""
    try:
        check_event(event)
    except InvalidEventError:
        return
    told = event
    if isinstance(event, Action) and event.value is not None:
        # A value is a float for whoever reads it, and those above 2^53 have gaps.
        told = msgspec.structs.replace(event, value=float(event.value))
    for encoding in ("json", "msgpack"):
        value = encode_event(event, encoding)
        assert decode_event(event.user_id.encode(), value, 2**48, ACTIONS) == told

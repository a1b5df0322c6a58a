"""The compiled reading of plain events against `ChangeDecoder`, which reads all."""

import random
from collections.abc import Iterator, Sequence
from inspect import isfunction
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.changes import Acted, Exposed
from storage.columns import columns_of
from storage.xxh3 import MAX_BYTES, xxh3_64
from streams.decoding import ChangeDecoder
from streams.events import (
    MAX_EVENT_BYTES,
    MAX_FUTURE_MS,
    MAX_ITEMS,
    MAX_TIME_MS,
    Action,
    Event,
    Forget,
    Impression,
    Tick,
    UserUpdate,
    encode_event,
)
from streams.parsing import EventParser
from tests.storage.read_records import rows_of, types_of

ACTIONS = ("click", "like", "gefällt", "rate", "cli")
NOW_MS = 1_700_000_000_000
IS_SLOW = isfunction(xxh3_64)
"""Whether nothing is compiled, as coverage wants it."""
PARSER, DECODER = EventParser(ACTIONS), ChangeDecoder(ACTIONS)


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = NOW_MS
    headers: tuple[()] = ()


@pytest.fixture(autouse=True)
def _uncompiled_hashes_may_run_over() -> Iterator[None]:
    with np.errstate(over="ignore"):
        yield


def _log(events: Sequence[tuple[bytes | None, bytes | None]], timestamp: int = NOW_MS) -> list[Record]:
    return [Record(3 * place, key, value, timestamp) for place, (key, value) in enumerate(events)]


def _taken(records: Sequence[Record]) -> list[Record]:
    """The records that were taken, after they were found to be what `ChangeDecoder` makes of them."""
    columns, others = PARSER.parse(records)
    left = {record.offset for record in others}
    assert [record.offset for record in others] == [r.offset for r in records if r.offset in left]
    taken = [record for record in records if record.offset not in left]
    changes: list[Acted | Exposed] = []
    for record, change in zip(taken, DECODER.decode(taken), strict=True):
        assert isinstance(change, Acted | Exposed), (record, change)
        changes.append(change)
    expected = columns_of(changes)
    for record, got, wanted in zip(taken, rows_of(columns), rows_of(expected), strict=True):
        assert got == wanted, record
    assert types_of(columns) == types_of(expected)
    assert columns.text.tobytes() == b"".join(record.value or b"" for record in records)
    return taken


def _takes(value: bytes, key: bytes = b"u", timestamp: int = NOW_MS) -> bool:
    return bool(_taken(_log([(key, value)], timestamp)))


def _events() -> list[Event]:
    return [
        Action(user_id="u", ts_ms=NOW_MS, item_id="a", action="click"),
        Action(user_id="u 7", ts_ms=NOW_MS + MAX_FUTURE_MS, item_id="i" * MAX_BYTES, action="rate", value=4.5),
        Action(event_id="e1", user_id="u" * MAX_BYTES, ts_ms=0, item_id="{}[],:", action="cli", request_id="r" * 99),
        Action(user_id="u", ts_ms=7, item_id="a", action="like", value=-0.00012),
        Impression(user_id="u", ts_ms=NOW_MS, items=["a"]),
        Impression(event_id="e2", user_id="u", ts_ms=NOW_MS, items=["a", "b" * MAX_BYTES, "a"], request_id="r"),
        Impression(user_id="u", ts_ms=NOW_MS, items=[f"i{place}" for place in range(MAX_ITEMS)]),
    ]


def _record(event: Event) -> tuple[bytes | None, bytes]:
    return None if isinstance(event, Tick) else event.user_id.encode(), encode_event(event)


def test_plain_events_are_taken() -> None:
    """A parser that leaves events to the slow way is right, and of no use."""
    records = _log([_record(event) for event in _events()])
    assert _taken(records) == records
    assert _taken(_log([])) == []


def test_the_others_are_left_in_their_order() -> None:
    """What compiled code does not know must come through the other way, wherever it stands among the plain ones."""
    others = [
        (b"u", encode_event(UserUpdate(user_id="u", ts_ms=7, features={"age": 31}))),
        (b"u", encode_event(Forget(user_id="u", ts_ms=7))),
        (None, encode_event(Tick(ts_ms=8))),
        (None, None),
        (b"u", b""),
        (b"u", encode_event(_events()[0], "msgpack")),
        _record(Action(user_id="ü", ts_ms=NOW_MS, item_id="a", action="click")),
        _record(Impression(user_id="u", ts_ms=NOW_MS, items=["a"], context={"n": 1})),
        _record(Impression(user_id="u", ts_ms=NOW_MS, items=["a", "b", "ü"])),
        _record(Action(user_id="u", ts_ms=NOW_MS, item_id="a" * (MAX_BYTES + 1), action="click")),
    ]
    plain = [_record(event) for event in _events()]
    mixed = [pair for place, other in enumerate(others) for pair in (other, plain[place % len(plain)])]
    assert [record.offset // 3 for record in _taken(_log(mixed))] == list(range(1, len(mixed), 2))


HEAD = b'"type":"action","user_id":"u","item_id":"a","action":"like"'


@pytest.mark.parametrize(
    "number",
    b"0 5 -5 4.5 0.1 1e3 1E+3 1.5e-7 123456789012345 0.000000000000001 1e22 1e-22 123456789012345e22 0.0 0e5 1.10 null "
    b"999999999999999e-22 -999999999999999e22 0.00012 4.35e-5 9.999999999999e-9".split(),
)
def test_exact_numbers_are_taken(number: bytes) -> None:
    """Ratings are numbers of few digits."""
    assert _takes(b'{%s,"ts_ms":7,"value":%s}' % (HEAD, number))


@pytest.mark.parametrize(
    "number",
    b"-0 -0.0 01 1. .5 - +1 1e 1e+ e5 --1 1- 1.2.3 1e5e5 1e1.5 1234567890123456 1e23 1e-23 1e999 0.1e-22 NaN nul nulll "
    b'true "5" [5] {} -00 00 0x5 1, 0.3000000000000000000004 111111111111111111111111111111111111 1e99999'.split(),
)
def test_doubtful_numbers_are_left(number: bytes) -> None:
    """A value that is wrong in its last bit is wrong."""
    assert not _takes(b'{%s,"ts_ms":7,"value":%s}' % (HEAD, number))


@pytest.mark.parametrize(
    ("rest", "is_taken"),
    [
        (b'"ts_ms":0', True),
        (b'"ts_ms":%d' % (NOW_MS + MAX_FUTURE_MS), True),
        (b'"ts_ms":%d' % (NOW_MS + MAX_FUTURE_MS + 1), False),
        (b'"ts_ms":-1', False),
        (b'"ts_ms":07', False),
        (b'"ts_ms":7.0', False),
        (b'"ts_ms":"7"', False),
        (b'"ts_ms":null', False),
        (b'"ts_ms":', False),
        (b'"v":1', False),
        (b'"ts_ms":7,"v":1', True),
        (b'"ts_ms":7,"v":2', False),
        (b'"ts_ms":7,"v":11', False),
        (b'"ts_ms":7,"v":null', False),
        (b'"ts_ms":7,"ts_ms":7', False),
        (b'"ts_ms":7,"event_id":null,"event_id":null', False),
        (b'"ts_ms":7,"event_id":null,"request_id": null', True),
        (b'"ts_ms":7,"event_id":""', False),
        (b'"ts_ms":7,"event_id":"%s"' % (b"e" * 241), False),
        (b'"ts_ms":7,"items":["a"]', False),
        (b'"ts_ms":7,"context":{}', False),
        (b'"ts_ms":7,"Value":1', False),
        (b'"ts_ms":7,"request_idx":"r"', False),
        (b'"ts_ms":7,"":1', False),
        (b'"ts_ms":7,', False),
        (b'"ts_ms":7}', False),
        (b'"ts_ms":7 \t\r\n', True),
        (b'"ts_ms"\n:\t7', True),
        (b'"ts_ms"7', False),
        (b'"ts_ms":7,ts', False),
        (b'"ts_ms":7,"event_id', False),
        (b'"ts_ms":7,"event_id":"', False),
    ],
)
def test_only_right_fields_are_taken(rest: bytes, is_taken: bool) -> None:
    """A record that a worker should refuse must not get into the state by the fast way."""
    assert _takes(b"{%s,%s}" % (HEAD, rest)) is is_taken
    assert _takes(b" {%s,%s}\n" % (HEAD, rest)) is is_taken
    assert not _takes(b"{%s,%s}." % (HEAD, rest))
    assert not _takes(b"{%s,%s}" % (HEAD, rest), key=b"v")
    assert not _takes(b"{%s,%s}" % (HEAD, rest), key=b"")


@pytest.mark.parametrize(
    "value",
    [
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":[]}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":["a",]}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":["a" "b"]}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":"a"}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":["a",null]}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":[""]}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":["a"],"item_id":"a"}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":["a"],"value":null}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":["a"}',
        b'{"type":"impression","user_id":"u","ts_ms":7}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":[%s"a"]}' % (b'"a",' * MAX_ITEMS),
        b'{"type":"Action","user_id":"u","ts_ms":7,"item_id":"a","action":"like"}',
        b'{"type":"action","user_id":"u","ts_ms":7,"item_id":"a","action":"lik"}',
        b'{"type":"action","user_id":"u","ts_ms":7,"item_id":"a"}',
        b'{"type":"action","user_id":"u","ts_ms":7,"action":"like"}',
        b'{"type":"action","ts_ms":7,"item_id":"a","action":"like"}',
        b'{"user_id":"u","ts_ms":7,"item_id":"a","action":"like"}',
        b'{"type":"impression","user_id":"u","ts_ms":7,"items":["a"]%s}' % (b" " * MAX_EVENT_BYTES),
        *(b"{", b"}", b"{}", b"[]", b" ", b"{ }", b'"', b'"}', b"null", b"\x00}", b'{"type"}', b'{"type":}'),
    ],
    ids=range(30),
)
def test_broken_events_are_left(value: bytes) -> None:
    """Each of these is refused with its cause, by the other way."""
    assert not _takes(value)
    assert not _takes(value, key=b""), "an empty key is that of a user who is not named"


def test_times_at_the_ends_of_their_range() -> None:
    """A sum that runs over makes a time of the far future right."""
    value = b'{%s,"ts_ms":%d}' % (HEAD, MAX_TIME_MS)
    assert _takes(value, timestamp=2**63 - 1 - MAX_FUTURE_MS)
    assert not _takes(value, timestamp=-(2**62))
    assert not _takes(b'{%s,"ts_ms":%d}' % (HEAD, MAX_TIME_MS + 1), timestamp=2**62)


def _json_strings() -> st.SearchStrategy[bytes]:
    plain = st.sampled_from(["u", "a", "e1", "like", "click", "gefällt", "action", "impression", "x" * 240, "x" * 257])
    odd = st.text(st.sampled_from('aé"\\\n\x7f {}'), max_size=6)
    escaped = st.sampled_from([b'"\\u0075"', b'"\\/"', b'"\\ud800"', b'"\xff"', b'"a\x00"', b'"u', b"u"])
    return (plain | odd).map(msgspec.json.encode) | escaped


def _json_numbers() -> st.SearchStrategy[bytes]:
    shaped = st.from_regex(r"-?(0|[1-9][0-9]{0,16})(\.[0-9]{1,8})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
    made = st.floats(allow_nan=False, allow_infinity=False).map(msgspec.json.encode)
    whole = st.integers(0, 2**64).map(lambda number: b"%d" % number)
    return shaped.map(str.encode) | made | whole | st.sampled_from([b"1", b"2", b"-0", b"NaN", b"%d" % NOW_MS])


IDS = _json_strings() | st.just(b"null")
VALUES = {
    b"type": st.sampled_from([b'"action"', b'"impression"', b'"tick"', b'"user_update"', b"null"]),
    b"event_id": IDS,
    b"ts_ms": st.integers(0, NOW_MS).map(lambda time: b"%d" % time) | _json_numbers(),
    b"v": st.sampled_from([b"1", b"2", b"0", b"1.0", b"null"]),
    b"user_id": st.sampled_from([b'"u"', b'"u"', b'"v"', b'"\\u0075"']) | IDS,
    b"item_id": IDS,
    b"action": st.sampled_from([b'"like"', b'"click"']) | IDS,
    b"value": _json_numbers() | IDS,
    b"request_id": IDS,
    b"items": st.lists(IDS, max_size=4).map(lambda items: b"[" + b" ,".join(items) + b"]") | IDS,
    b"context": st.sampled_from([b"{}", b'{"n":1}', b"[]"]),
}
PLAIN = {
    b"type": b'"action"',
    b"event_id": b'"e7"',
    b"ts_ms": b"%d" % NOW_MS,
    b"v": b"1",
    b"user_id": b'"u"',
    b"item_id": b'"film"',
    b"action": b'"like"',
    b"value": b"4.5",
    b"request_id": b'"r9"',
    b"items": b'["a", "b"]',
}
OF_ACTION = [b"type", b"ts_ms", b"user_id", b"item_id", b"action"]
OF_IMPRESSION = [b"type", b"ts_ms", b"user_id", b"items"]
SPACE = st.sampled_from([b"", b"", b"", b" ", b"\n\t", b"\r", b"\x0b", b"\xc2\xa0"])


@st.composite
def _values(draw: st.DrawFn) -> bytes:
    """Values near plain ones: each has few odd places, or none."""
    is_action = draw(st.booleans())
    optional = [b"event_id", b"v", b"request_id"] + [b"value"] * is_action
    names = (OF_ACTION if is_action else OF_IMPRESSION) + draw(st.lists(st.sampled_from(optional), unique=True))
    fields = dict(PLAIN) if is_action else {**PLAIN, b"type": b'"impression"'}
    for name in draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=2)):
        fields[name] = draw(VALUES[name])
    names += draw(st.sampled_from([[]] * 4 + [[name] for name in sorted(VALUES)]))
    fields.setdefault(b"context", b"{}")
    space = draw(SPACE)
    pairs = [b'"%s"%s:%s' % (name, space, fields[name] + space) for name in draw(st.permutations(names))]
    value: bytes = space + b"{" + (b"," + space).join(pairs) + b"}" + space
    if draw(st.integers(0, 9)) == 0:
        value = value[: draw(st.integers(0, len(value)))] + draw(st.sampled_from([b"", b"}", b'"}', b"\x00"]))
    return value


PLAIN_SHARE = 0.1
SEEN: list[bool] = []


@settings(
    max_examples=60 if IS_SLOW else 200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(st.tuples(st.sampled_from([b"u", b"u", b"u", b"v", None]), _values()), min_size=4, max_size=12))
def _any_values(events: list[tuple[bytes | None, bytes]]) -> None:
    records = _log(list(events))
    taken = {record.offset for record in _taken(records)}
    SEEN.extend(record.offset in taken for record in records)


def test_whatever_is_taken_is_what_the_decoder_makes_of_it() -> None:
    """Two ways of reading one log must not fold two states."""
    SEEN.clear()
    _any_values()
    assert PLAIN_SHARE < np.mean(SEEN) < 1 - PLAIN_SHARE, "hardly anything is read by both ways, or by one alone"


def test_damaged_values_are_left_or_right() -> None:
    """Compiled code that runs over the end of a value takes the process along."""
    made = random.Random(7)
    plain = [encode_event(event) for event in _events() if len(encode_event(event)) < 500]
    pieces = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"0", b"-", b"e", b" ", b"\\", b"\xff", b"\x00"]
    records: list[Record] = []
    for place in range(2_000 if IS_SLOW else 20_000):
        value = bytearray(made.choice(plain))
        for _ in range(made.randint(1, 3)):
            at, size = made.randrange(len(value) + 1), made.randint(0, 2)
            value[at : at + size] = made.choice(pieces) if made.random() < 0.7 else made.randbytes(1)
        key = made.choice([b"u", b"u 7", b"u" * MAX_BYTES])
        records.append(Record(place, key, bytes(value)))
    taken = [record for at in range(0, len(records), 1_000) for record in _taken(records[at : at + 1_000])]
    assert len(records) / 100 < len(taken) < len(records) / 2

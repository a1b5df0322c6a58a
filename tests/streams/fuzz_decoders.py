"""Feeds everything that decodes records from outside with rubbish, valid records mutated and values of wrong types.

    make fuzz ARGS="--examples 100000 --seed 1"

Each input must be decoded or be refused with the decoder's own error; anything else ends the run with the input.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args

import msgspec

from storage.changes import Refused
from streams.broken import broken_records
from streams.dead_letters import HEADERS, read_dead_letter
from streams.decoding import ChunkDecoder
from streams.events import (
    Action,
    Cause,
    Event,
    Forget,
    Impression,
    InvalidEventError,
    Kind,
    Tick,
    UserUpdate,
    decode_event,
    decode_value,
    encode_event,
)
from streams.forgotten import decode_due, encode_forgotten
from streams.items import InvalidItemError, Item, decode_item, encode_item
from streams.samples import encode_sample
from tests.streams.made_samples import forgotten_factory, sample_factory

NOW_MS = 1_700_000_000_000
ACTIONS = frozenset({"like", "click"})
_chunks = ChunkDecoder(sorted(ACTIONS))
WORDS = frozenset({*get_args(Cause), "taken", "refused"})
"""How an input can be taken."""
EVENTS: tuple[Event, ...] = (
    Impression(event_id="e1", user_id="ü", ts_ms=5, items=["a", "é" * 90, "b" * 250], context={"n": 1, "x": "y"}),
    Action(event_id="e2", user_id="u", ts_ms=NOW_MS, item_id="a", action="like", value=4.5, request_id="r"),
    Action(user_id="u", ts_ms=NOW_MS, item_id="a", action="click"),
    UserUpdate(event_id="e3", user_id="u", ts_ms=7, features={"age": 31, "paid": True, "score": 0.5}),
    Forget(user_id="u", ts_ms=9),
    Tick(ts_ms=8),
)
TOKENS = (
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 40, b'"\\ud800"', b"\\u0000", b"\xff", b"\xed\xa0\x80"),
    *(b"[" * 3_000, b'{"a":' * 3_000, b"\x91" * 3_000, b"\x81\xa1a" * 3_000, b"\xdf\xff\xff\xff\xff", b"\xdd\x7f\xff"),
    *(b"\xc0", b"\xc1", b"\xc4\xff", b"\xc7\x01\x05x", b"\xcb\x7f\xf8\0\0\0\0\0\0", b"\xcf" + b"\xff" * 8, b'"v":9'),
)
NAMES = ("type", "event_id", "ts_ms", "v", "user_id", "items", "request_id", "context", "item_id", "action", "value")


class Target(NamedTuple):
    """One decoder: `run` gives the word for how an input was taken, and lets out no error but a real one."""

    name: str
    corpus: Sequence[bytes]
    run: Callable[[bytes, random.Random], str]


def targets() -> list[Target]:
    """All decoders of records from outside."""
    events = [encode_event(event, "json") for event in EVENTS] + [encode_event(event, "msgpack") for event in EVENTS]
    events += [value for _, value, _ in broken_records(NOW_MS, 14)]
    items = [encode_item(Item(item_id="50", title="Star Wars", categories=("a", "b"), ts_ms=5)), b'{"item_id":"50"}']
    return [
        Target("events", events, _take_event),
        Target("records in chunks", events, _take_record),
        Target("topics of others", events, _take_others),
        Target("items", items, _take_item),
        Target(
            "samples",
            [
                encode_sample(sample_factory()),
                encode_sample(sample_factory(user_id="ü", trigger_offset=2**40)),
                encode_forgotten(forgotten_factory()),
            ],
            _take_sample,
        ),
        Target("dead letters", [b"17", b"events", b"malformed_json", b"1-3-7"], _take_letter),
    ]


def fuzz(target: Target, num_examples: int, seed: int) -> tuple[Counter[str], float]:
    """How so many inputs were taken, and the seconds that the slowest took; raises what the decoder should not."""
    rng = random.Random(f"{target.name} {seed}")
    taken: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(num_examples):
        value = made_value(rng) if rng.random() < 0.3 else mutated(rng, target.corpus)
        began = time.perf_counter()
        try:
            taken[target.run(value, rng)] += 1
        except Exception as error:
            error.add_note(f"{target.name}: {value[:2_000]!r}")
            raise
        slowest = max(slowest, time.perf_counter() - began)
    assert taken.keys() <= WORDS
    return taken, slowest


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """A valid input with a few changes."""
    value = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place = rng.randrange(len(value) + 1)
        change = rng.randrange(6)
        if change == 0 and value:
            value[place % len(value)] ^= 1 << rng.randrange(8)
        elif change == 1:
            del value[place : place + rng.randrange(1, 20)]
        elif change == 2:
            value[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif change == 3:
            value[place:place] = rng.choice(TOKENS)
        elif change == 4:
            value[place:place] = value[: rng.randrange(1, 40)]
        else:
            value[place:] = rng.choice(corpus)[place:]
    return bytes(value)


def made_value(rng: random.Random) -> bytes:
    """An event of which up to two fields have values of any type, as JSON or MessagePack."""
    fields = msgspec.to_builtins(rng.choice(EVENTS))
    for _ in range(rng.randrange(3)):
        fields[rng.choice(NAMES)] = _any(rng, 3)
    return (msgspec.json.encode if rng.random() < 0.5 else msgspec.msgpack.encode)(fields)


def _any(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(9 if depth else 7)
    if kind == 7:
        return [_any(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 8:
        return {str(rng.random()): _any(rng, depth - 1) for _ in range(rng.randrange(4))}
    plain = (None, True, rng.randrange(-(2**63), 2**64), rng.random() * 10 ** rng.randrange(-300, 300), "u", "like")
    return plain[kind] if kind < 6 else "é" * rng.randrange(300)


def _take_event(value: bytes, rng: random.Random) -> str:
    key = rng.choice((b"u", "ü".encode(), None, b""))
    try:
        decode_event(key, value, NOW_MS, ACTIONS)
    except InvalidEventError as error:
        str(error).encode("utf-8", "backslashreplace")
        return error.cause
    return "taken"


def _take_record(value: bytes, rng: random.Random) -> str:
    """What a worker decodes with; it must say what `decode_event` says."""
    state = rng.getstate()
    word = _take_event(value, rng)
    rng.setstate(state)
    key = rng.choice((b"u", "ü".encode(), None, b""))
    changes, columns = _chunks.decode([SimpleNamespace(offset=7, key=key, value=value, timestamp=NOW_MS)])
    refused = [change.cause for change in changes if isinstance(change, Refused)]
    assert refused == ([] if word == "taken" else [word])
    assert len(changes) + len(columns) == 1
    return word


def _take_others(value: bytes, rng: random.Random) -> str:
    kinds: tuple[Kind, ...] = ("impression", "action")
    try:
        event = decode_value(value, NOW_MS, ACTIONS, rng.choice(kinds))
    except InvalidEventError as error:
        return error.cause
    assert decode_value(encode_event(event), NOW_MS, ACTIONS) == event
    return "taken"


def _take_item(value: bytes, rng: random.Random) -> str:
    try:
        decode_item(rng.choice((b"50", None)), value)
    except InvalidItemError:
        return "refused"
    return "taken"


def _take_sample(value: bytes, _: random.Random) -> str:
    try:
        decode_due(value)
    except msgspec.DecodeError:
        return "refused"
    return "taken"


def _take_letter(value: bytes, rng: random.Random) -> str:
    headers: list[tuple[str, bytes | None]] = [(name, b"7") for name in HEADERS]
    headers[rng.randrange(len(headers))] = (rng.choice(list(HEADERS)), rng.choice((value, None)))
    letter = read_dead_letter(SimpleNamespace(headers=headers, key=rng.choice((b"k", None)), value=value))
    return "refused" if letter is None else "taken"


def main() -> None:
    """Fuzz all targets and print how their inputs were taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000, help="for each decoder")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for target in targets():
        taken, slowest = fuzz(target, given.examples, given.seed)
        ways = ", ".join(f"{way} {count:,}" for way, count in taken.most_common())
        print(f"{target.name}: {given.examples:,} inputs, slowest {slowest * 1000:.1f} ms: {ways}")


if __name__ == "__main__":
    main()

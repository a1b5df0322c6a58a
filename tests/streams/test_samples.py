"""Samples as bytes: what comes back, and what is refused."""

from typing import Any

import msgspec
import pytest

from streams.samples import SAMPLE_VERSION, Segment, decode_sample, encode_sample
from tests.streams.made_samples import sample_factory


def test_a_sample_survives_its_bytes() -> None:
    """Every column has to arrive as it was sent, whatever its types."""
    features = [
        Segment(1, 0, "age", 3),
        Segment(2, 0, "name", "né"),
        Segment(3, 1, "new", True),
        Segment(4, 1, "x", 0.5),
    ]
    sample = sample_factory(value_places=[0, 0], value_actions=[1, 0], values=[4.5, 1.0], features=features)
    decoded = decode_sample(encode_sample(sample))
    assert decoded == sample
    assert [type(segment.value) for segment in decoded.features] == [int, str, bool, float]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"v": SAMPLE_VERSION + 1}, f"v must be {SAMPLE_VERSION}"),
        ({"ts_ms": []}, r"one length, got \[0, 1\]"),
        ({"values": [1.0]}, r"one length, got \[0, 1\]"),
        ({"value_places": [1], "value_actions": [0], "values": [1.0]}, "value_places must be 0 to 0"),
        ({"value_places": [-1], "value_actions": [0], "values": [1.0]}, "value_places must be 0 to 0"),
    ],
)
def test_columns_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], told: str) -> None:
    """They would fail in the middle of a step, or teach one event's action on another."""
    with pytest.raises(msgspec.DecodeError, match=told):
        decode_sample(encode_sample(sample_factory(**changes)))


@pytest.mark.parametrize("value", [None, b"", b"\x80", b"\xff", b"\x81\xa1v\x01"])
def test_what_is_no_sample_is_refused(value: bytes | None) -> None:
    """A record of anything else must not stop the learner."""
    with pytest.raises(msgspec.DecodeError):
        decode_sample(value)


@pytest.mark.parametrize(
    ("version", "missing"),
    [(1, ("value_places", "value_actions", "features", "exposure_rate", "topic_id")), (2, ("topic_id",))],
)
def test_a_sample_of_a_former_format_is_refused(version: int, missing: tuple[str, ...]) -> None:
    """Dense values would be read as sparse ones; without the id of its log nobody can tell whether it is new."""
    former = msgspec.msgpack.decode(encode_sample(sample_factory()))
    for name in missing:
        del former[name]
    with pytest.raises(msgspec.DecodeError):
        decode_sample(msgspec.msgpack.encode(former | {"v": version}))

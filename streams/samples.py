"""A training sample: one user's sequence as of a trigger, and which of its events are to be learned."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from storage.changes import Feature
from storage.folded import Update
from storage.sample_body import SampleBody
from storage.updates import segment_starts

SAMPLE_VERSION = 3
"""The format of a sample that this code writes and reads."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A feature of the user from a moment on: the first update of a stretch over which its value stays the same."""

    ts_ms: int
    """Event time of the update."""
    place: int
    """Index of the first event that is not before it; the number of events where all are."""
    name: str
    value: Feature


class Sample(SampleBody, frozen=True, kw_only=True):
    """One due sample; equal for every replay of the same log.

    Its id is (topic_id, partition, trigger_offset, n). The columns `item_ids`, `ts_ms`, `actions`, `groups` and `new`
    describe the user's last events, oldest first, as of the trigger; all have one length. Values are sparse: the
    columns `value_places`, `value_actions` and `values` have a length of their own. Records in the range
    (since, trigger] are new: each record is in the range of exactly one sample of its user.
    """

    v: int = SAMPLE_VERSION
    """Format version."""
    topic_id: str
    """Id of the source topic: another one each time that topic is made anew."""
    epoch: int
    """How often the store that made the sample has seen the source topic made anew."""
    partition: int
    """Source partition; the sample travels in the partition of that number."""
    trigger_offset: int
    """Offset of the record that made the sample due."""
    n: int
    """Rank among the samples that one record made due."""
    since: int
    """Position of the user's previous trigger; -1 for the first (see `storage.entries`)."""
    user_id: str
    features: list[Segment]
    """How the user's features changed, oldest first; of what was overtaken before the first event nothing."""
    exposure_rate: float
    """Share of the exposures without an action that are among the events; the others were left out by chance."""
    num_records: int
    """Source records (an exposure counts one) in the range."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Sample)
_SAMPLE_HEAD = b"\xde" + len(Sample.__struct_fields__).to_bytes(2, "big")
"""What a map of so many entries begins with."""


def encode_sample(sample: Sample) -> bytes:
    """The sample as MessagePack."""
    return _encoder.encode(sample)


def join_sample(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """What `encode_sample` gives of an encoded body and the other fields, but for `v`, in their order."""
    return _SAMPLE_HEAD + body + _encoder.encode({"v": SAMPLE_VERSION, **fields})[1:]


def decode_sample(value: bytes | None) -> Sample:
    """Read a sample; raises `msgspec.DecodeError` for anything else."""
    try:
        sample = _decoder.decode(value or b"")
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    if sample.v != SAMPLE_VERSION:
        raise msgspec.ValidationError(f"v must be {SAMPLE_VERSION}, got {sample.v}: upgrade workers and learner alike")
    _check_lengths(sample.item_ids, sample.ts_ms, sample.actions, sample.groups, sample.new)
    _check_lengths(sample.value_places, sample.value_actions, sample.values)
    if sample.value_places and not 0 <= min(sample.value_places) <= max(sample.value_places) < len(sample.item_ids):
        raise msgspec.ValidationError(f"value_places must be 0 to {len(sample.item_ids) - 1}")
    return sample


def segments_of(updates: Sequence[Update], ts_ms: Sequence[int]) -> list[Segment]:
    """The segments of updates that stand in order of time, beside events at these times.

    >>> made = [Update(0, 10, "age", 3), Update(1, 20, "age", 3), Update(2, 30, "age", 4)]
    >>> [(segment.ts_ms, segment.place, segment.value) for segment in segments_of(made, [15, 30])]
    [(10, 0, 3), (30, 1, 4)]
    """
    found: dict[tuple[str, int], Segment] = {}
    for number, start in enumerate(segment_starts(updates)):
        place = bisect_left(ts_ms, start.ts_ms)
        # Of what a feature was before the first event, only the newest counts.
        found[start.name, number if place else -1] = Segment(start.ts_ms, place, start.name, start.value)
    return sorted(found.values(), key=lambda segment: (segment.ts_ms, segment.name))


def _check_lengths(*columns: list[Any]) -> None:
    lengths = sorted({len(column) for column in columns})
    if len(lengths) > 1:
        raise msgspec.ValidationError(f"columns must have one length, got {lengths}")

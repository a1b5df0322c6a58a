"""What stands among the samples where a user was forgotten, and reading either of the two."""

from typing import TypeAlias

import msgspec

from streams.samples import SAMPLE_VERSION, Sample, decode_sample


class Forgotten(msgspec.Struct, frozen=True, kw_only=True, tag="forgotten"):
    """A user was forgotten; equal for every replay of the same log.

    Its id is (topic_id, partition, trigger_offset, n), one of those of samples: what has a lower one came before. The
    user's next sample is the first of a new chain.
    """

    v: int = SAMPLE_VERSION
    """Format version, that of samples."""
    topic_id: str
    """Id of the source topic."""
    epoch: int
    """How often the store that forgot has seen the source topic made anew."""
    partition: int
    """Source partition; this travels in the partition of that number."""
    trigger_offset: int
    """Offset of the record that had the user forgotten."""
    n: int
    """Always 0: that record makes no sample due."""
    user_id: str


Due: TypeAlias = Sample | Forgotten

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Forgotten)
_TAG = _encoder.encode({"type": "forgotten"})[1:]
"""What follows the head of the map; a sample's begins with another name."""


def encode_forgotten(forgotten: Forgotten) -> bytes:
    """The record as MessagePack."""
    return _encoder.encode(forgotten)


def decode_due(value: bytes | None) -> Due:
    """Read a record of the topic `samples`; raises `msgspec.DecodeError` for anything else."""
    if value is None or not value[1:].startswith(_TAG):
        return decode_sample(value)
    try:
        forgotten = _decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    if forgotten.v != SAMPLE_VERSION:
        raise msgspec.ValidationError(
            f"v must be {SAMPLE_VERSION}, got {forgotten.v}: upgrade workers and learner alike"
        )
    return forgotten

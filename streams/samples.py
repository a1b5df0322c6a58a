"""A training sample: one user's sequence as of a trigger, and which of its events are to be learned."""

import msgspec

NEW_EXPOSURE = 1
"""Bit in `Sample.new`: the exposure came since the user's previous sample."""
NEW_ACTION = 2
"""Bit in `Sample.new`: the event's first action came since the user's previous sample."""
NEW_FURTHER_ACTION = 4
"""Bit in `Sample.new`: a further action on an event that had one came since the user's previous sample."""


SAMPLE_VERSION = 1
"""The newest format of a sample that this code reads."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One due sample; equal for every replay of the same log.

    Its id is (epoch, partition, trigger_offset, n). The columns describe the user's last events, oldest first, as
    of the trigger; all have one length. Records in the range (since, trigger] are new: each record is in the range
    of exactly one sample of its user.
    """

    v: int = SAMPLE_VERSION
    """Format version."""
    epoch: int
    """Log epoch: how often the source topic was made anew."""
    partition: int
    """Source partition; the sample travels in the partition of that number."""
    trigger_offset: int
    """Offset of the record that made the sample due."""
    n: int
    """Rank among the samples that one record made due."""
    since: int
    """Position of the user's previous trigger; -1 for the first (see `storage.entries`)."""
    user_id: str
    item_ids: list[str]
    ts_ms: list[int]
    actions: list[int]
    """Bit masks over the settings' actions."""
    values: list[float | None]
    groups: list[int]
    """Events with equal numbers belong to one impression."""
    new: list[int]
    """Bits NEW_EXPOSURE, NEW_ACTION and NEW_FURTHER_ACTION; 0 is context only."""
    num_records: int
    """Source records (an exposure counts one) in the range."""
    kafka_ms: list[int]
    """Kafka timestamps of the records in the range."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Sample)


def encode_sample(sample: Sample) -> bytes:
    """The sample as MessagePack."""
    return _encoder.encode(sample)


def decode_sample(value: bytes | None) -> Sample:
    """Read a sample; raises `msgspec.DecodeError` for anything else."""
    try:
        sample = _decoder.decode(value or b"")
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    if sample.v > SAMPLE_VERSION:
        raise msgspec.ValidationError(f"v must be <= {SAMPLE_VERSION}, got {sample.v}: upgrade the learner first")
    columns = (sample.item_ids, sample.ts_ms, sample.actions, sample.values, sample.groups, sample.new)
    lengths = sorted({len(column) for column in columns})
    if len(lengths) > 1:
        raise msgspec.ValidationError(f"columns must have one length, got {lengths}")
    return sample

"""What a user's sequence is made of: entries as the log brought them, events as they are read.

A *position* is one integer that orders the records of a source partition for ever: the log's epoch
(how often the topic was made anew) in the high bits, the offset in the low 48.
"""

from enum import IntEnum

import msgspec

OFFSET_BITS = 48
"""Bits of a position that hold the offset."""


def pack_position(epoch: int, offset: int) -> int:
    """Position of an offset in a log epoch.

    >>> unpack_position(pack_position(2, 77))
    (2, 77)
    """
    return (epoch << OFFSET_BITS) | offset


def unpack_position(position: int) -> tuple[int, int]:
    """The (epoch, offset) that a position was packed from."""
    return position >> OFFSET_BITS, position & ((1 << OFFSET_BITS) - 1)


class Kind(IntEnum):
    """What an entry records."""

    EXPOSURE = 0
    """An item was shown."""
    ACTION = 1
    """The user acted on an item."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record of a user's sequence, stored as the log brought it; an impression makes one per shown item."""

    position: int
    """Position of the source record."""
    index: int
    """Place of the item in its impression, from 0; 0 for an action."""
    kind: Kind
    ts_ms: int
    """Event time, milliseconds since 1970."""
    kafka_ms: int
    """The source record's Kafka timestamp."""
    item_id: str
    request_id: str | None = None
    action: int = -1
    """Index into the settings' actions; -1 for an exposure."""
    value: float | None = None


class SequenceEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a sequence as it is read: an exposure with the actions folded onto it, or an organic action."""

    item_id: str
    ts_ms: int
    """Event time of the exposure; of the first action where there was no exposure."""
    actions: int
    """Bit mask over the settings' actions; 0 is a bare exposure."""
    value: float | None
    """The newest value that came with an action."""
    group: int
    """Position of the impression, or of the organic action: events of one group happened together."""
    index: int
    """Place in the impression."""
    acted: int | None
    """Position of the first action's record."""
    last: int
    """Position of the newest record folded into this event."""

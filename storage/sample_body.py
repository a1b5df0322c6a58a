"""What a due sample says of its user's events, in columns."""

import msgspec

from storage.folded import FoldedSequence

NEW_EXPOSURE = 1
"""Bit of an event: the exposure came since the user's previous sample."""
NEW_ACTION = 2
"""Bit of an event: its first action came since the user's previous sample."""
NEW_FURTHER_ACTION = 4
"""Bit of an event: a further action on one that had an action came since the user's previous sample."""


class SampleBody(msgspec.Struct, frozen=True, gc=False):
    """The newest events as of a trigger, oldest first, and those before them back to the oldest that is new."""

    item_ids: list[str]
    ts_ms: list[int]
    actions: list[int]
    """Bit masks over the settings' actions."""
    groups: list[int]
    """Position of the impression, or of the organic action: events with equal numbers belong to one impression."""
    new: list[int]
    """Bits NEW_EXPOSURE, NEW_ACTION and NEW_FURTHER_ACTION; 0 is context only."""
    value_places: list[int]
    """Index of the event that each value belongs to, ascending."""
    value_actions: list[int]
    """Action that each value came with, an index into the settings' actions; of one event the newest action last."""
    values: list[float]
    kafka_ms: list[int]
    """Kafka timestamps of the new rows in the order of the log, but those that the cap dropped."""


def body_of(events: FoldedSequence, since: int) -> SampleBody:
    """The body of a sample of these events, of which what came after position `since` is new."""
    exposed = events.shown & (events.groups > since)
    acted = events.acted > since
    acted_further = (events.acted >= 0) & ~acted & (events.last > since)
    new = exposed * NEW_EXPOSURE + acted * NEW_ACTION + acted_further * NEW_FURTHER_ACTION
    return SampleBody(
        events.item_ids,
        events.ts_ms.tolist(),
        events.actions.tolist(),
        events.groups.tolist(),
        new.tolist(),
        events.value_places.tolist(),
        events.value_actions.tolist(),
        events.values.tolist(),
        events.new_kafka_ms.tolist(),
    )

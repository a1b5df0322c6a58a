"""Bodies of due samples, built from the sequence as of their trigger."""

from collections.abc import Iterator, Sequence

from storage.changes import SampleRef
from storage.entries import Entry, SequenceEvent, unpack_position
from storage.keys import OutboxKey
from storage.sequence import Fold
from storage.sequence_store import SequenceStore
from streams.samples import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, Sample


def build_sample(store: SequenceStore, key: OutboxKey, ref: SampleRef, last: int) -> Sample:
    """The sample of one reference: at least all events of its range, and context up to `last` events."""
    return next(build_samples(store, [(key, ref)], last))


def build_samples(store: SequenceStore, due: Sequence[tuple[OutboxKey, SampleRef]], last: int) -> Iterator[Sample]:
    """The samples of one user's references, which stand in the order of the log; reads the entries once."""
    user_id = due[0][1].user_id
    entries = store.entries(user_id, until=due[-1][0].position)
    fold = Fold(store.settings.cap)
    added = 0
    for key, ref in due:
        while added < len(entries) and entries[added].position <= key.position:
            fold.add(entries[added])
            added += 1
        first = added
        while first > 0 and entries[first - 1].position > ref.since:
            first -= 1
        in_range = entries[first:added]
        assert len(in_range) == ref.num_records, f"{key} of {user_id!r} lacks entries"
        events = _with_context(fold.events(), ref.since, last)
        yield _sample(store.partition, key, ref, events, in_range)


def new_bits(event: SequenceEvent, since: int) -> int:
    """What of an event came after position `since`: bits of NEW_EXPOSURE, NEW_ACTION and NEW_FURTHER_ACTION.

    >>> shown = SequenceEvent("50", 0, actions=1, value=None, group=7, index=0, acted=9, last=12)
    >>> [new_bits(shown, since) for since in (6, 8, 9, 12)]
    [3, 2, 4, 0]
    """
    bits = 0
    was_shown = event.acted != event.group
    if was_shown and event.group > since:
        bits |= NEW_EXPOSURE
    if event.acted is not None and event.acted > since:
        bits |= NEW_ACTION
    elif event.acted is not None and event.last > since:
        bits |= NEW_FURTHER_ACTION
    return bits


def _with_context(events: list[SequenceEvent], since: int, last: int) -> list[SequenceEvent]:
    oldest_new = next((index for index, event in enumerate(events) if event.last > since), len(events))
    return events[max(0, min(oldest_new, len(events) - last)) :]


def _sample(
    partition: int, key: OutboxKey, ref: SampleRef, events: list[SequenceEvent], in_range: list[Entry]
) -> Sample:
    epoch, trigger_offset = unpack_position(key.position)
    return Sample(
        epoch=epoch,
        partition=partition,
        trigger_offset=trigger_offset,
        n=key.n,
        since=ref.since,
        user_id=ref.user_id,
        item_ids=[event.item_id for event in events],
        ts_ms=[event.ts_ms for event in events],
        actions=[event.actions for event in events],
        values=[event.value for event in events],
        groups=[event.group for event in events],
        new=[new_bits(event, ref.since) if event.last > ref.since else 0 for event in events],
        num_records=ref.num_records,
        kafka_ms=[entry.kafka_ms for entry in in_range],
    )

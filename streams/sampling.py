"""Bodies of due samples, built from the sequence as of their trigger."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from storage.changes import SampleRef
from storage.entries import unpack_position
from storage.folded import FoldedSequence, Update
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from streams.samples import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, Sample, segments_of


def build_samples(store: SequenceStore, due: Sequence[tuple[OutboxKey, SampleRef]], last: int) -> list[Sample]:
    """The samples of one user's references: at least all new events of each range, and context up to `last` events."""
    user_id = due[0][1].user_id
    spans = [(key.position, ref.since) for key, ref in due]
    told = store.updates(user_id)
    found = store.read_samples(user_id, spans, last=last)
    return [_sample(store, key, ref, events, told) for (key, ref), events in zip(due, found, strict=True)]


def _sample(
    store: SequenceStore, key: OutboxKey, ref: SampleRef, events: FoldedSequence, told: Sequence[Update]
) -> Sample:
    epoch, trigger_offset = unpack_position(key.position)
    ts_ms = events.ts_ms.tolist()
    return Sample(
        topic_id=store.topic_id_at(key.position),
        epoch=epoch,
        partition=store.partition,
        trigger_offset=trigger_offset,
        n=key.n,
        since=ref.since,
        user_id=ref.user_id,
        item_ids=events.item_ids,
        ts_ms=ts_ms,
        actions=events.actions.tolist(),
        groups=events.groups.tolist(),
        new=new_bits(events, ref.since).tolist(),
        value_places=events.value_places.tolist(),
        value_actions=events.value_actions.tolist(),
        values=events.values.tolist(),
        features=segments_of([update for update in told if update.position <= key.position], ts_ms),
        exposure_rate=store.settings.exposure_rate,
        num_records=ref.num_records,
        kafka_ms=events.new_kafka_ms.tolist(),
    )


def new_bits(events: FoldedSequence, since: int) -> npt.NDArray[np.int64]:
    """What of each event came after position `since`: bits of NEW_EXPOSURE, NEW_ACTION and NEW_FURTHER_ACTION."""
    exposed = events.shown & (events.groups > since)
    acted = events.acted > since
    acted_further = (events.acted >= 0) & ~acted & (events.last > since)
    bits: npt.NDArray[np.int64] = exposed * NEW_EXPOSURE + acted * NEW_ACTION + acted_further * NEW_FURTHER_ACTION
    return bits

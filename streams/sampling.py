"""Bodies of due samples, built from the sequence as of their trigger."""

import numpy as np
import numpy.typing as npt

from storage.changes import SampleRef
from storage.entries import unpack_position
from storage.folded import FoldedSequence
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from streams.samples import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, Sample, segments_of


def build_sample(store: SequenceStore, key: OutboxKey, ref: SampleRef, last: int) -> Sample:
    """The sample of one reference: at least all new events of its range, and context up to `last` events."""
    events = store.read(ref.user_id, until=key.position, last=last, since=ref.since)
    epoch, trigger_offset = unpack_position(key.position)
    ts_ms = events.ts_ms.tolist()
    return Sample(
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
        features=segments_of(store.updates(ref.user_id, until=key.position), ts_ms),
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

"""Due samples, with the sequence as of their trigger and the user's features."""

from collections.abc import Sequence

from msgspec import structs

from storage.changes import SampleRef
from storage.entries import unpack_position
from storage.folded import Update
from storage.keys import OutboxKey
from storage.sample_body import SampleBody
from storage.sequence_store import SequenceStore
from streams.samples import Sample, segments_of


def build_samples(store: SequenceStore, due: Sequence[tuple[OutboxKey, SampleRef]], last: int) -> list[Sample]:
    """The samples of one user's references: at least all new events of each range, and context up to `last` events."""
    user_id = due[0][1].user_id
    told = store.updates(user_id)
    bodies = store.read_samples(user_id, [(key.position, ref.since) for key, ref in due], last=last)
    return [_sample(store, key, ref, body, told) for (key, ref), body in zip(due, bodies, strict=True)]


def _sample(store: SequenceStore, key: OutboxKey, ref: SampleRef, body: SampleBody, told: Sequence[Update]) -> Sample:
    epoch, trigger_offset = unpack_position(key.position)
    known = [update for update in told if update.position <= key.position]
    return Sample(
        topic_id=store.topic_id_at(key.position),
        epoch=epoch,
        partition=store.partition,
        trigger_offset=trigger_offset,
        n=key.n,
        since=ref.since,
        user_id=ref.user_id,
        features=segments_of(known, body.ts_ms),
        exposure_rate=store.settings.exposure_rate,
        num_records=ref.num_records,
        **structs.asdict(body),
    )

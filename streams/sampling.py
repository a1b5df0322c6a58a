"""Due samples, with the sequence as of their trigger and the user's features, as they are sent."""

from collections.abc import Sequence

from storage.changes import ForgetRef, SampleRef
from storage.entries import unpack_position
from storage.folded import Update
from storage.keys import OutboxKey
from storage.sample_body import decode_body
from storage.sequence_store import SequenceStore
from streams.forgotten import Forgotten, encode_forgotten
from streams.samples import Segment, join_sample, segments_of


def build_samples(store: SequenceStore, due: Sequence[tuple[OutboxKey, SampleRef]], last: int) -> list[bytes]:
    """The encoded samples of one user's references: all new events of each range, context up to `last` events."""
    user_id = due[0][1].user_id
    told = store.updates(user_id)
    bodies = store.read_bodies(user_id, [(key.position, ref.since) for key, ref in due], last=last)
    return [_sample(store, key, ref, body, told) for (key, ref), body in zip(due, bodies, strict=True)]


def build_forgotten(store: SequenceStore, key: OutboxKey, ref: ForgetRef) -> bytes:
    """The encoded word that a user was forgotten."""
    epoch, trigger_offset = unpack_position(key.position)
    return encode_forgotten(
        Forgotten(
            topic_id=store.topic_id_at(key.position),
            epoch=epoch,
            partition=store.partition,
            trigger_offset=trigger_offset,
            n=key.n,
            user_id=ref.user_id,
        )
    )


def _sample(store: SequenceStore, key: OutboxKey, ref: SampleRef, body: bytes, told: Sequence[Update]) -> bytes:
    epoch, trigger_offset = unpack_position(key.position)
    fields = {
        "topic_id": store.topic_id_at(key.position),
        "epoch": epoch,
        "partition": store.partition,
        "trigger_offset": trigger_offset,
        "n": key.n,
        "since": ref.since,
        "user_id": ref.user_id,
        "features": _segments([update for update in told if update.position <= key.position], body),
        "exposure_rate": store.settings.exposure_rate,
        "num_records": ref.num_records,
    }
    return join_sample(body, fields)


def _segments(told: Sequence[Update], body: bytes) -> list[Segment]:
    return segments_of(told, decode_body(body).ts_ms) if told else []

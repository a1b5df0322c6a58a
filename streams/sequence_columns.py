"""A user's sequence as columns: what a worker tells of it."""

from typing import Any

from msgspec.structs import astuple

from storage.sequence_store import SequenceStore
from streams.samples import segments_of


def sequence_columns(
    store: SequenceStore, user_id: str, last: int | None = None, until: int | None = None
) -> dict[str, Any]:
    """A user's newest events as columns, as of position `until` or now, with how far the store is.

    `values` holds the newest value of each event, `valued` all of them as [index of the event, action, value];
    `features` the user's as they are, `feature_segments` how they changed, as [ts_ms, place, name, value].
    Raises `StateError` for an `until` before what is kept.
    """
    events, told = store.read(user_id, last=last, until=until), store.updates(user_id, until=until)
    columns = (events.value_places.tolist(), events.value_actions.tolist(), events.values.tolist())
    valued = list(zip(*columns, strict=True))
    newest = {place: value for place, _, value in valued}
    return {
        "user_id": user_id,
        "partition": store.partition,
        "epoch": store.epoch,
        "applied": store.applied,
        "action_names": list(store.settings.actions),
        "item_ids": events.item_ids,
        "ts_ms": events.ts_ms.tolist(),
        "actions": events.actions.tolist(),
        "values": [newest.get(place) for place in range(len(events))],
        "valued": valued,
        "groups": events.groups.tolist(),
        "indexes": events.indexes.tolist(),
        "features": {update.name: update.value for update in told},
        "feature_segments": [astuple(segment) for segment in segments_of(told, events.ts_ms.tolist())],
    }

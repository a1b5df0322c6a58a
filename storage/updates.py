"""What was told of a user's features over time: a short series of its own, beside the rows."""

from collections.abc import Sequence

import msgspec
from rocksdict import WriteBatch

from storage.changes import Updated
from storage.database import Database
from storage.entries import pack_position
from storage.folded import Update
from storage.keys import UPDATES, updates_key

MAX_UPDATES = 1_024
"""Updates of a user at which those go that changed nothing, and the oldest of those that did, down to half."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Update])


class Updates:
    """What was told of the users of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._any = next(db.scan(UPDATES, UPDATES + b"\xff"), None) is not None

    def of(self, user_id: str) -> list[Update]:
        """A user's updates by (ts_ms, position); of one record by name."""
        value = self._db.get(updates_key(user_id)) if self._any else None
        return [] if value is None else _decoder.decode(value)

    def append(self, batch: WriteBatch, epoch: int, changes: Sequence[Updated]) -> None:
        """Add what a chunk tells of users' features."""
        series: dict[str, list[Update]] = {}
        for change in changes:
            if change.user_id not in series:
                series[change.user_id] = self.of(change.user_id)
            position = pack_position(epoch, change.offset)
            told = series[change.user_id]
            told += [Update(position, change.ts_ms, name, value) for name, value in change.features.items()]
            told.sort(key=_order)
            if len(told) >= MAX_UPDATES:
                told[:] = _shortened(told)
        for user_id, told in series.items():
            batch.put(updates_key(user_id), _encoder.encode(told))
        self._any = self._any or bool(series)


def segment_starts(updates: Sequence[Update]) -> list[Update]:
    """The first of each run of updates that say the same of a feature (HSTU.md 5: auxiliary series)."""
    known: dict[str, Update] = {}
    starts = []
    for update in updates:
        former = known.get(update.name)
        if former is None or (type(former.value), former.value) != (type(update.value), update.value):
            starts.append(update)
        known[update.name] = update
    return starts


def _order(update: Update) -> tuple[int, int, str]:
    return update.ts_ms, update.position, update.name


def _shortened(told: list[Update]) -> list[Update]:
    starts = segment_starts(told)
    newest = {update.name: update for update in told}
    kept = starts[max(0, len(starts) - MAX_UPDATES // 2) :]
    # A feature that has not changed for long is still known.
    missing = [update for name, update in newest.items() if name not in {each.name for each in kept}]
    return sorted([*missing, *kept], key=_order)

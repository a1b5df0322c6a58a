"""One chunk of the log, worked through: users' new states and entries, and what goes to the outbox."""

import msgspec

from storage.changes import Acted, Change, Exposed, Refused, SampleRef, Updated
from storage.entries import Entry, Kind, pack_position
from storage.keys import OutboxKey
from storage.outbox import Outgoing
from storage.store_settings import StoreSettings
from storage.user_state import UserState


class Applied(msgspec.Struct, kw_only=True):
    """What applying a chunk did."""

    exposed: int = 0
    """Entries for items that were shown."""
    acted: int = 0
    updated: int = 0
    refused: int = 0
    skipped: int = 0
    """Changes that had been applied before."""
    samples: int = 0
    """Samples that became due."""


class Chunk:
    """Works changes into users' states (None for a user not yet known); it writes nothing."""

    def __init__(self, settings: StoreSettings, epoch: int, states: dict[str, UserState | None]) -> None:
        self._settings = settings
        self._epoch = epoch
        self.num_new_users = sum(state is None for state in states.values())
        self.states = {user_id: state or UserState() for user_id, state in states.items()}
        self.entries: dict[str, list[Entry]] = {}
        self.outgoing: list[tuple[OutboxKey, Outgoing]] = []
        self.applied = Applied()

    def add(self, change: Change) -> None:
        """Work in the next change, in the order of the log."""
        position = pack_position(self._epoch, change.offset)
        if isinstance(change, Acted):
            self._act(position, change)
        elif isinstance(change, Exposed):
            self._expose(position, change)
        elif isinstance(change, Updated):
            self.states[change.user_id].features.update(change.features)
            self.applied.updated += 1
        else:
            self._refuse(position, change)

    def _act(self, position: int, change: Acted) -> None:
        entry = Entry(
            position=position,
            index=0,
            kind=Kind.ACTION,
            ts_ms=change.ts_ms,
            kafka_ms=change.kafka_ms,
            item_id=change.item_id,
            request_id=change.request_id,
            action=change.action,
            value=change.value,
        )
        self.entries.setdefault(change.user_id, []).append(entry)
        self.applied.acted += 1
        state = self.states[change.user_id]
        state.num_actions += 1
        if state.num_actions >= self._settings.sample_every:
            self._trigger(position, change.user_id, state)

    def _expose(self, position: int, change: Exposed) -> None:
        entries = self.entries.setdefault(change.user_id, [])
        for index, item_id in enumerate(change.item_ids):
            entries.append(
                Entry(
                    position=position,
                    index=index,
                    kind=Kind.EXPOSURE,
                    ts_ms=change.ts_ms,
                    kafka_ms=change.kafka_ms,
                    item_id=item_id,
                    request_id=change.request_id,
                )
            )
        self.applied.exposed += len(change.item_ids)
        state = self.states[change.user_id]
        state.num_exposures += len(change.item_ids)
        if state.num_exposures >= self._settings.sample_exposures:
            self._trigger(position, change.user_id, state)

    def _trigger(self, position: int, user_id: str, state: UserState) -> None:
        due = SampleRef(user_id=user_id, since=state.since, num_records=state.num_unlearned)
        self.outgoing.append((OutboxKey(position, 0), due))
        self.applied.samples += 1
        state.trigger(position)

    def _refuse(self, position: int, change: Refused) -> None:
        self.outgoing.append((OutboxKey(position, 0), change))
        self.applied.refused += 1

"""What of a user's rows is in no sample yet, and when the next one is due."""

from dataclasses import dataclass

from storage.changes import SampleRef
from storage.store_settings import StoreSettings
from storage.user_state import UserState


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings in the units of the rows."""

    cap: int
    sample_every: int
    sample_exposures: int
    label_delay_ms: int
    session_gap_ms: int

    @classmethod
    def of(cls, settings: StoreSettings) -> "Rules":
        """Those of a store."""
        return cls(
            settings.cap,
            settings.sample_every,
            settings.sample_exposures,
            round(settings.label_delay_seconds * 1000),
            round(settings.session_gap_seconds * 1000),
        )

    def due(self, first_ts: int, last_ts: int) -> int:
        """When a timer is due of a user whose first pending record and newest one are of these times; 0: never."""
        if not self.label_delay_ms:
            return last_ts + self.session_gap_ms if self.session_gap_ms else 0
        if not self.session_gap_ms:
            return first_ts + self.label_delay_ms
        return min(first_ts + self.label_delay_ms, last_ts + self.session_gap_ms)

    def limit(self, state: UserState) -> int:
        """Rows at which a user's sequence is trimmed."""
        return 2 * max(self.cap, state.num_survivors)


@dataclass(frozen=True, slots=True)
class DueSample:
    """A sample that a chunk made due."""

    position: int
    """Position of the record that did."""
    due_ms: int
    """When the timer was due; 0 where it was by count."""
    ref: SampleRef

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """What orders the samples of a partition."""
        return self.position, self.due_ms, self.ref.user_id.encode()


def trigger(user_id: str, state: UserState, position: int, due_ms: int) -> DueSample:
    """The sample of all that is pending; what follows is for the next one."""
    ref = SampleRef(user_id=user_id, since=state.since, num_records=state.num_pending)
    state.since = position
    state.num_actions = state.num_exposures = 0
    return DueSample(position, due_ms, ref)

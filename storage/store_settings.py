"""Settings of the sequence store."""

import math
from dataclasses import dataclass
from pathlib import Path

MAX_ACTIONS = 62
"""Most action types: their bit mask has to fit a signed 64-bit integer."""
MAX_ACTION_BYTES = 64
"""Longest name of an action, in UTF-8."""
MAX_CAP = 8_192
"""Most events that a trim leaves of a user: a sample of twice as many has to fit into one record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSettings:
    """How sequences are kept; all but `folder` and `num_checkpoints` shape state, are stored with it and checked."""

    folder: Path = Path(".headwater/state")
    """Folder of the databases, one for each source partition, and of their checkpoints."""
    actions: tuple[str, ...] = ("click", "like", "dislike", "rate")
    """Names of the action types; an action's bit is its place here."""
    cap: int = 2_048
    """Events that are left of a user's sequence when it is trimmed, which happens at twice as many rows."""
    attribution_seconds: float = 86_400.0
    """How long after an impression an action on one of its items belongs to it."""
    exposure_rate: float = 1.0
    """Share of the exposures without an action that sequences and samples hold."""
    sample_every: int = 1
    """A sample is due at every so many new actions of a user."""
    sample_exposures: int = 512
    """A sample is due, too, once so many exposures of a user came without one."""
    label_delay_seconds: float = 0.0
    """A sample is due, too, when the oldest event that is in none is so old; 0: never for that reason."""
    session_gap_seconds: float = 1_800.0
    """A sample is due, too, when a user did nothing for so long; 0: never for that reason."""
    num_checkpoints: int = 2
    """Checkpoints kept of each partition."""

    def __post_init__(self) -> None:
        _check_actions(self.actions)
        for name in ("sample_every", "sample_exposures", "num_checkpoints"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        for name in ("attribution_seconds", "label_delay_seconds", "session_gap_seconds"):
            seconds = getattr(self, name)
            if not (seconds >= 0 and math.isfinite(seconds)):
                raise ValueError(f"{name} must be >= 0 and finite, got {seconds}")
        if not 0 < self.exposure_rate <= 1:
            raise ValueError(f"exposure_rate must be > 0 and <= 1, got {self.exposure_rate}")
        least = self.sample_exposures + self.sample_every
        if not least <= self.cap <= MAX_CAP:
            raise ValueError(
                f"cap must be sample_exposures + sample_every = {least} to {MAX_CAP}, got {self.cap}: "
                "with less, events leave a sequence before a sample holds them"
            )


def _check_actions(actions: tuple[str, ...]) -> None:
    if not 1 <= len(actions) <= MAX_ACTIONS:
        raise ValueError(f"actions must hold 1 to {MAX_ACTIONS} names, got {len(actions)}")
    if len(set(actions)) < len(actions):
        raise ValueError(f"actions must differ from each other, got {', '.join(actions)}")
    for name in actions:
        if not 1 <= len(name.encode()) <= MAX_ACTION_BYTES:
            raise ValueError(f"actions must be names of 1 to {MAX_ACTION_BYTES} bytes, got {name!r}")

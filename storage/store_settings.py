"""Settings of the sequence store."""

from dataclasses import dataclass
from pathlib import Path

MAX_ACTIONS = 62
"""Most action types: their bit mask has to fit a signed 64-bit integer."""
MAX_ACTION_BYTES = 64
"""Longest name of an action, in UTF-8."""
MAX_EXPOSED = 1_000
"""Most items that one record shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSettings:
    """How sequences are kept; all but `folder` and `num_checkpoints` shape state, are stored with it and checked."""

    folder: Path = Path(".headwater/state")
    """Folder of the databases, one for each source partition, and of their checkpoints."""
    actions: tuple[str, ...] = ("click", "like", "dislike", "rate")
    """Names of the action types; an action's bit is its place here."""
    cap: int = 2_048
    """Events kept of each user."""
    sample_every: int = 1
    """A sample is due at every so many new actions of a user."""
    sample_exposures: int = 512
    """A sample is due, too, once so many exposures of a user came without one."""
    num_checkpoints: int = 2
    """Checkpoints kept of each partition."""

    def __post_init__(self) -> None:
        _check_actions(self.actions)
        for name in ("sample_every", "sample_exposures", "num_checkpoints"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        least = self.sample_exposures + MAX_EXPOSED + self.sample_every
        if self.cap < least:
            raise ValueError(
                f"cap must be >= sample_exposures + {MAX_EXPOSED} + sample_every = {least}, got {self.cap}: "
                "with less, events could leave a sequence before a sample holds them"
            )


def _check_actions(actions: tuple[str, ...]) -> None:
    if not 1 <= len(actions) <= MAX_ACTIONS:
        raise ValueError(f"actions must hold 1 to {MAX_ACTIONS} names, got {len(actions)}")
    if len(set(actions)) < len(actions):
        raise ValueError(f"actions must differ from each other, got {', '.join(actions)}")
    for name in actions:
        if not 1 <= len(name.encode()) <= MAX_ACTION_BYTES:
            raise ValueError(f"actions must be names of 1 to {MAX_ACTION_BYTES} bytes, got {name!r}")

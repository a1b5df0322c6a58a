"""Settings of the snapshot store."""

import math
import re
from dataclasses import dataclass

from storage.chain import MAX_LINKS


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotSettings:
    """Where snapshots lie and how many stay."""

    url: str = ".headwater/snapshots"
    """A folder, `file:///folder`, `memory://` (one process, one store), or what obstore opens (s3://, gs://, az://)."""
    model: str = "headwater"
    """Name of the model; its snapshots lie in the folder of this name."""
    keep: int = 3
    """Versions that stay besides the one that the pointer names and those that aliases are pinned to; what any of these
    is a delta of stays, too."""
    full_every: int = 60
    """A version is full at least so often; those between hold what changed, for which the trainer keeps two former
    versions in memory. 1: every version is full."""
    cumulative_every: int = 10
    """So often a delta is one of the last full version; the others are of the version before."""
    max_delta_share: float = 0.5
    """Bytes of the deltas since the last full version, as a share of that one's, beyond which the next one is full."""

    gate_sigmas: float = 0.0
    """A version is held back from `latest` where the hit rate over the last targets lies so many standard errors below
    that of a version before; 0: quality holds none back (values that are not finite always do)."""

    def __post_init__(self) -> None:
        if not self.url:
            raise ValueError("url must be a folder or a URL, got nothing")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", self.model):
            raise ValueError(f"model must be 1 to 64 letters, digits, - or _, got {self.model!r}")
        if self.keep < 0:
            raise ValueError(f"keep must be >= 0, got {self.keep}")
        if self.full_every < 1:
            raise ValueError(f"full_every must be >= 1, got {self.full_every}")
        if not 1 <= self.cumulative_every < MAX_LINKS:
            raise ValueError(f"cumulative_every must be 1 to {MAX_LINKS - 1}, got {self.cumulative_every}")
        if not 0 <= self.gate_sigmas < math.inf:
            raise ValueError(f"gate_sigmas must be >= 0 and finite, got {self.gate_sigmas}")
        if not 0 < self.max_delta_share < math.inf:
            raise ValueError(f"max_delta_share must be > 0 and finite, got {self.max_delta_share}")

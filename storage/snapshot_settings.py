"""Settings of the snapshot store."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotSettings:
    """Where snapshots lie and how many stay."""

    url: str = ".headwater/snapshots"
    """A folder, `file:///folder`, `memory://` (one process, one store), or what obstore opens (s3://, gs://, az://)."""
    model: str = "headwater"
    """Name of the model; its snapshots lie in the folder of this name."""
    keep: int = 3
    """Versions that stay besides the one that the pointer names and those that aliases are pinned to."""

    def __post_init__(self) -> None:
        if not self.url:
            raise ValueError("url must be a folder or a URL, got nothing")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", self.model):
            raise ValueError(f"model must be 1 to 64 letters, digits, - or _, got {self.model!r}")
        if self.keep < 0:
            raise ValueError(f"keep must be >= 0, got {self.keep}")

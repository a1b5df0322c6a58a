"""The samples that a chunk made due."""

from dataclasses import dataclass

from storage.changes import SampleRef


@dataclass(frozen=True, slots=True)
class DueSample:
    """A sample that a chunk made due."""

    position: int
    """Position of the record that did."""
    due_ms: int
    """When the timer was due; 0 where it was by count."""
    ref: SampleRef
    body: bytes
    """Its body, if it was at hand."""

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """What orders the samples of a partition."""
        return self.position, self.due_ms, self.ref.user_id.encode()

"""Settings of the learner process; those of the learning itself are the model's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerSettings:
    """How the learner process batches, publishes and reports."""

    publish_seconds: float = 2.0
    """Time between two published versions while there is something new."""
    publish_steps: int = 0
    """Publish after every so many steps instead, so that versions of one log are alike; 0: by seconds."""
    linger_seconds: float = 0.2
    """How long a sample may wait for a micro-batch to fill where the log has no more."""
    rehearse_seconds: float = 0.0
    """How long the learner goes on with what it replays once it has learned all there is, until more comes. What it
    learns then depends on the clock: two runs over one log differ."""
    ranks: Path | None = None
    """Keep the rank of every target in this file, as int64 number of the event and float64 rank."""
    staleness_every: int = 251
    """Ask the newest published version, too, about the targets whose number in the stream this divides; 0: about none.

    It costs a second copy of what is served and, at a million rows, a second of the publishing thread for each version.
    A prime, so that no place in slates of one length is asked about alone.
    """
    max_skipped_steps: int = 10
    """Steps in a row without a finite loss after which nothing is published until a step succeeds."""
    missing_samples: Literal["stop", "skip"] = "stop"
    """What to do where samples expired before they were learned: end with an error, or go on without them."""
    metrics_host: str = "127.0.0.1"
    """Address on which Prometheus metrics are served."""
    metrics_port: int = 6067
    """Port on which Prometheus metrics are served."""

    def __post_init__(self) -> None:
        if not self.publish_seconds > 0:
            raise ValueError(f"publish_seconds must be > 0, got {self.publish_seconds}")
        if self.publish_steps < 0:
            raise ValueError(f"publish_steps must be >= 0, got {self.publish_steps}")
        if not self.linger_seconds >= 0:
            raise ValueError(f"linger_seconds must be >= 0, got {self.linger_seconds}")
        if not self.rehearse_seconds >= 0:
            raise ValueError(f"rehearse_seconds must be >= 0, got {self.rehearse_seconds}")
        if self.staleness_every < 0:
            raise ValueError(f"staleness_every must be >= 0, got {self.staleness_every}")
        if self.max_skipped_steps < 1:
            raise ValueError(f"max_skipped_steps must be >= 1, got {self.max_skipped_steps}")
        if self.missing_samples not in ("stop", "skip"):
            raise ValueError(f"missing_samples must be stop or skip, got {self.missing_samples!r}")
        if not 1 <= self.metrics_port <= 65535:
            raise ValueError(f"metrics_port must be 1 to 65535, got {self.metrics_port}")

"""Settings of the ingress."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class IngressSettings:
    """How `headwater ingress` runs; the topics it reads are `topics.impressions` and `topics.actions`."""

    metrics_host: str = "127.0.0.1"
    """Address that its metrics listen on."""
    metrics_port: int = 6069
    """Port of its Prometheus metrics."""
    watchdog_seconds: float = 60.0
    """How long records may wait without any being forwarded before the process ends itself."""
    session_seconds: float = 6.0
    """How long the group waits for a silent ingress before its partitions go to others."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a partition begins of which the group has committed nothing."""
    instance_id: str = ""
    """Name of this ingress that stays over restarts, for static membership; another for each, or empty."""

    def __post_init__(self) -> None:
        if not 1 <= self.metrics_port <= 65535:
            raise ValueError(f"metrics_port must be 1 to 65535, got {self.metrics_port}")
        if not self.watchdog_seconds > 0:
            raise ValueError(f"watchdog_seconds must be > 0, got {self.watchdog_seconds}")
        if not 6 <= self.session_seconds <= 1800:
            raise ValueError(f"session_seconds must be 6 to 1800, which brokers allow, got {self.session_seconds}")
        if self.start not in ("earliest", "latest"):
            raise ValueError(f"start must be earliest or latest, got {self.start!r}")

"""Settings of the stream worker."""

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from streams.http_access import HttpAccess, check_access

MAX_SAMPLE_EVENTS = 8_192
"""Most events of context in a sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """How a worker runs; nothing here shapes state."""

    web_host: str = "127.0.0.1"
    """Address that its HTTP views listen on."""
    web_port: int = 6066
    """Port of its HTTP views."""
    advertised_url: str = ""
    """Where the other workers reach its HTTP views; empty: at web_host and web_port."""
    token: str = field(default="", repr=False)
    """What its HTTP views are to be asked with, as `Authorization: Bearer TOKEN`; one for all workers. Empty: anyone
    may ask."""
    tls_certificate: Path | None = None
    """PEM file with the certificate of its HTTP views, and those between it and the root; none: plain HTTP."""
    tls_key: Path | None = None
    """PEM file with the certificate's key."""
    sample_events: int = 1_024
    """Events of context in a sample; those it is to teach are in it beyond that."""
    max_outbox: int = 20_000
    """Samples and dead letters of a partition that may wait for Kafka; with more, no records are applied."""
    checkpoint_seconds: float = 60.0
    """How often a checkpoint of each partition is made."""
    checkpoint_url: str = ""
    """Where checkpoints are shipped to and taken from: a folder, `file:///folder`, or what obstore opens (s3://, gs://,
    az://), with its credentials in the environment; empty: nowhere, the state folder alone holds them."""
    watchdog_seconds: float = 60.0
    """How long records may wait without any being applied before the process ends itself."""
    session_seconds: float = 6.0
    """How long the group waits for a silent worker before its partitions go to others."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a partition begins of which there is no state and no commit of the group."""
    log_format: Literal["text", "json"] = "text"
    """What log lines are: text for people, or a JSON object each, with partition and offset in fields of their own."""
    instance_id: str = ""
    """Name of this worker that stays over restarts, for static membership; another for each worker, or empty."""

    standby: bool = False
    """Whether to follow all partitions outside of the group until SIGUSR1, or missing members, say to take a place in
    it; with a state folder of its own, and the instance_id of the worker whose place that is to be."""

    @property
    def url(self) -> str:
        """Where the other workers reach its HTTP views."""
        if self.advertised_url:
            return self.advertised_url
        anywhere = self.web_host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        return f"{self.scheme}://{socket.gethostname() if anywhere else self.web_host}:{self.web_port}"

    @property
    def scheme(self) -> str:
        """What its own address begins with."""
        return "https" if self.tls_certificate else "http"

    @property
    def access(self) -> HttpAccess:
        """What the other workers are asked with: all have one token, and one certificate or authority."""
        return HttpAccess(token=self.token, certificate=self.tls_certificate)

    def __post_init__(self) -> None:
        if not 1 <= self.web_port <= 65535:
            raise ValueError(f"web_port must be 1 to 65535, got {self.web_port}")
        if self.advertised_url and not re.fullmatch(r"https?://[^/?#]+", self.advertised_url):
            raise ValueError(f"advertised_url must be like http://worker-1:6066, got {self.advertised_url!r}")
        check_access(self.token, self.tls_certificate, self.tls_key)
        if not 1 <= self.sample_events <= MAX_SAMPLE_EVENTS:
            raise ValueError(f"sample_events must be 1 to {MAX_SAMPLE_EVENTS}, got {self.sample_events}")
        if self.max_outbox < 1:
            raise ValueError(f"max_outbox must be >= 1, got {self.max_outbox}")
        self._check_seconds()
        if urlsplit(self.checkpoint_url).username is not None:
            raise ValueError("checkpoint_url must hold no name or password: give those in the environment")
        for name, kinds in (("start", ("earliest", "latest")), ("log_format", ("text", "json"))):
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name} must be {' or '.join(kinds)}, got {getattr(self, name)!r}")

    def _check_seconds(self) -> None:
        for name in ("checkpoint_seconds", "watchdog_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if not 6 <= self.session_seconds <= 1800:
            raise ValueError(f"session_seconds must be 6 to 1800, which brokers allow, got {self.session_seconds}")

"""Settings of the serving process."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from storage.alias import CHAMPION, check_alias_name
from streams.http_access import HttpAccess, check_access

MAX_K = 500
"""Longest list that a request may ask for."""
MAX_RANKED = 1_000
"""Most items that a request may have ranked."""
MAX_BATCH = 100
"""Most users of a batch."""
MAX_BATCH_K = 100
"""Longest lists that a batch may ask for."""
MAX_EXPLAINED = 32
"""Most events of which a request may ask what they change."""
_LEAST = {
    "exact_items": 0,
    "cache_bytes": 0,
    "sequence_bytes": 0,
    "max_batch": 1,
    "max_requests": 1,
    "num_threads": 1,
    "candidates": 1,
    "max_impressions": 0,
    "max_per_category": 0,
    "max_per_author": 0,
    "fresh_slots": 0,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """How the server listens and whom it asks."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Port to listen on."""
    worker_urls: tuple[str, ...] = ("http://127.0.0.1:6066",)
    """Every worker's address; each user's sequence is asked of the worker that owns it."""
    worker_token: str = field(default="", repr=False)
    """The workers' `worker.token`."""
    worker_certificate: Path | None = None
    """PEM file of the certificates that workers are known by, where no known authority has signed them."""
    sequence_timeout_seconds: float = 2.0
    """How long a request looks for the worker that owns its user before it is answered 503."""
    alias: str = CHAMPION
    """Alias whose version answers: `champion` is the newest, unless `headwater snapshots rollback` holds it."""
    canary_alias: str = ""
    """A second alias, whose version answers a share of the users; empty: there is none."""
    canary_share: float = 0.1
    """Share of the users that the canary answers, by a hash of their ids."""
    poll_seconds: float = 0.5
    """Pause between two looks at the alias."""
    exact_items: int = 200_000
    """Up to so many items the best are looked for among all; beyond, among the clusters nearest to the user."""
    num_threads: int = 1
    """Threads that the model computes an answer with."""
    min_version_seconds: float = 2.0
    """How long a request waits for the version that it asks for at least, before it is answered 409."""
    cache_bytes: int = 256 << 20
    """Memory for what was computed of users lately (about 1 kB an event with the default model); 0: nothing is kept."""
    sequence_bytes: int = 64 << 20
    """Memory for sequences that workers told lately, of which only what is new is asked; 0: all is, each time."""
    max_batch: int = 32
    """Most requests that are answered together, where several wait."""
    max_requests: int = 256
    """Requests that are answered at one time; more are answered 503 at once."""
    page_clicks: bool = False
    """Whether the live page may send actions of any user; the demo sets it."""
    candidates: int = 200
    """Items that are retrieved where a list is ranked anew or capped; never fewer than the list is long."""
    action_weights: tuple[str, ...] = ()
    """`like=1`, `dislike=-0.5`, ...: what the probability of an action adds to an item's score; none: the order of
    retrieval, which is what the prequential figures are about."""
    max_impressions: int = 0
    """An item that was shown so often without an action is left out; 0: never."""
    max_per_category: int = 0
    """Most items of a list that share a category; 0: any number."""
    max_per_author: int = 0
    """Most items of a list by one author; 0: any number."""
    fresh_slots: int = 0
    """Last places of a list that are kept for new items of the catalogue; the first place never is."""
    fresh_seconds: float = 86_400.0
    """How long an item is new, from its first record in the catalogue."""
    token: str = field(default="", repr=False)
    """What clients have to send as `Authorization: Bearer TOKEN`; empty: anyone may ask."""
    tls_certificate: Path | None = None
    """PEM file with the server's certificate, and those between it and the root; none: plain HTTP."""
    tls_key: Path | None = None
    """PEM file with the certificate's key."""

    @property
    def url(self) -> str:
        """Address for clients on the same machine."""
        return f"{'https' if self.tls_certificate else 'http'}://{self.host}:{self.port}"

    @property
    def worker_access(self) -> HttpAccess:
        """What workers are asked with."""
        return HttpAccess(token=self.worker_token, certificate=self.worker_certificate)

    @property
    def weights(self) -> dict[str, float]:
        """`action_weights` by name."""
        return _parse_weights(self.action_weights)

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")
        check_alias_name(self.alias)
        self._check_canary()
        self._check_urls()
        check_access(self.token, self.tls_certificate, self.tls_key)
        _parse_weights(self.action_weights)
        for name in ("sequence_timeout_seconds", "poll_seconds", "min_version_seconds", "fresh_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")

    def _check_canary(self) -> None:
        if not 0 <= self.canary_share <= 1:
            raise ValueError(f"canary_share must be 0 to 1, got {self.canary_share}")
        if self.canary_alias:
            check_alias_name(self.canary_alias)
        if self.canary_alias == self.alias:
            raise ValueError(f"canary_alias must be another alias than alias, got {self.alias!r} twice")

    def _check_urls(self) -> None:
        if not self.worker_urls:
            raise ValueError("worker_urls must name at least one worker, got none")
        for url in self.worker_urls:
            if not url.startswith(("http://", "https://")) or url.endswith("/"):
                raise ValueError(f"worker_urls must be like http://127.0.0.1:6066, got {url!r}")


def _parse_weights(texts: tuple[str, ...]) -> dict[str, float]:
    weights = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            name = ""
        if not name or not math.isfinite(weights[name]):
            raise ValueError(f"action_weights must be like like=1 or hide=-0.5, got {text!r}")
    if len(weights) < len(texts):
        raise ValueError(f"action_weights must name each action once, got {texts}")
    return weights

"""Settings of the serving process."""

from dataclasses import dataclass

from storage.alias import CHAMPION, check_alias_name

MAX_K = 500
"""Longest list that a request may ask for."""
MAX_RANKED = 1_000
"""Most items that a request may have ranked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """How the server listens and whom it asks."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Port to listen on."""
    worker_urls: tuple[str, ...] = ("http://127.0.0.1:6066",)
    """Every worker's address; each user's sequence is asked of the worker that owns it."""
    sequence_timeout_seconds: float = 2.0
    """How long a request looks for the worker that owns its user before it is answered 503."""
    alias: str = CHAMPION
    """Alias whose version answers: `champion` is the newest, unless `headwater snapshots rollback` holds it."""
    poll_seconds: float = 0.5
    """Pause between two looks at the alias."""
    exact_items: int = 200_000
    """Up to so many items the best are looked for among all; beyond, among the clusters nearest to the user."""
    num_threads: int = 1
    """Threads that the model computes an answer with."""

    @property
    def url(self) -> str:
        """Address for clients on the same machine."""
        return f"http://{self.host}:{self.port}"

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")
        if not self.worker_urls:
            raise ValueError("worker_urls must name at least one worker, got none")
        for url in self.worker_urls:
            if not url.startswith(("http://", "https://")) or url.endswith("/"):
                raise ValueError(f"worker_urls must be like http://127.0.0.1:6066, got {url!r}")
        check_alias_name(self.alias)
        for name in ("sequence_timeout_seconds", "poll_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if self.exact_items < 0:
            raise ValueError(f"exact_items must be >= 0, got {self.exact_items}")
        if self.num_threads < 1:
            raise ValueError(f"num_threads must be >= 1, got {self.num_threads}")

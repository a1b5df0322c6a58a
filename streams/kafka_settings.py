"""Where Kafka is and how this application calls itself there."""

import re
from dataclasses import dataclass

_ADDRESS = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[^\s:,/]+):(\d{1,5})$")


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaSettings:
    """Connection to the brokers."""

    bootstrap_servers: tuple[str, ...] = ("127.0.0.1:9092",)
    """Brokers to ask first, each `host:port`."""
    group: str = "headwater"
    """Consumer group of the workers; every process of one installation shares it."""
    connect_seconds: float = 10.0
    """How long a broker may take to answer before a command gives up."""

    def __post_init__(self) -> None:
        if not self.bootstrap_servers:
            raise ValueError("bootstrap_servers must name at least one broker as host:port, got none")
        for address in self.bootstrap_servers:
            match = _ADDRESS.match(address)
            if not match or not 1 <= int(match[2]) <= 65535:
                raise ValueError(f"bootstrap_servers must be host:port with a port of 1 to 65535, got {address!r}")
        if not self.group.strip():
            raise ValueError(f"group must not be blank, got {self.group!r}")
        if not self.connect_seconds > 0:
            raise ValueError(f"connect_seconds must be > 0, got {self.connect_seconds}")

"""Where Kafka is, how this application calls itself there, and how it proves who it is."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

_ADDRESS = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[^\s:,/]+):(\d{1,5})$")
_Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
_Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaSettings:
    """Connection to the brokers."""

    bootstrap_servers: tuple[str, ...] = ("127.0.0.1:9092",)
    """Brokers to ask first, each `host:port`."""
    group: str = "headwater"
    """Consumer group of the workers; every process of one installation shares it."""
    connect_seconds: float = 10.0
    """How long a broker may take to answer before a command gives up."""
    security_protocol: _Protocol = "PLAINTEXT"
    """What the brokers' listener speaks: SSL is TLS, SASL_ asks for a name and a password."""
    sasl_mechanism: _Mechanism = "PLAIN"
    """How name and password are shown to the brokers."""
    sasl_username: str = ""
    """Name for SASL."""
    sasl_password: str = field(default="", repr=False)
    """Password for SASL; give it in HEADWATER_KAFKA_SASL_PASSWORD, as other users see the flags of a process."""
    ssl_ca_file: Path | None = None
    """Certificates that sign the brokers' (PEM); without it, those of the system."""
    ssl_cert_file: Path | None = None
    """Certificate of this client (PEM), where the brokers ask for one."""
    ssl_key_file: Path | None = None
    """Key of `ssl_cert_file` (PEM, not encrypted); without it, it is in the same file."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must name its host."""

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
        self._check_security()

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether connections are opened with name and password."""
        return self.security_protocol.startswith("SASL")

    def _check_security(self) -> None:
        for name, kinds in (("security_protocol", _Protocol), ("sasl_mechanism", _Mechanism)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kinds))}, got {getattr(self, name)!r}")
        if self.uses_sasl and not (self.sasl_username and self.sasl_password):
            missing = "sasl_password" if self.sasl_username else "sasl_username"
            raise ValueError(f"{missing} must not be empty where security_protocol is {self.security_protocol}")
        if not self.uses_sasl and (self.sasl_username or self.sasl_password):
            raise ValueError(
                f"sasl_username and sasl_password must be left out where security_protocol is "
                f"{self.security_protocol}; set SASL_SSL or SASL_PLAINTEXT to have them used"
            )
        files = [name for name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file") if getattr(self, name)]
        if files and not self.uses_tls:
            raise ValueError(
                f"{files[0]} must be left out where security_protocol is {self.security_protocol}; "
                "set SSL or SASL_SSL to have it used"
            )
        if self.ssl_key_file and not self.ssl_cert_file:
            raise ValueError("ssl_cert_file must be set where ssl_key_file is")

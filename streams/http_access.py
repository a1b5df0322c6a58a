"""Who may ask a process over HTTP: a bearer token (RFC 6750), and the certificate that it is known by."""

import hmac
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import SetupError


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAccess:
    """What a client shows, and whom it trusts."""

    token: str = field(default="", repr=False)
    """Sent as `Authorization: Bearer TOKEN`; empty: nothing is sent."""
    certificate: Path | None = None
    """PEM file of the certificates to trust, where no known authority has signed them."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers that each request carries."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def trust(self) -> ssl.SSLContext | bool:
        """What httpx takes as `verify` and aiohttp as `ssl`; raises `SetupError` where the file cannot be read."""
        if self.certificate is None:
            return True
        try:
            context = ssl.create_default_context(cafile=self.certificate)
        except OSError as error:
            raise SetupError(f"{self.certificate} cannot be read as certificates ({error}): give a PEM file") from error
        # The certificate itself is enough, whoever signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server speaks TLS with; raises `SetupError` where the files cannot be read."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise SetupError(
            f"TLS cannot be set up with {certificate} and {key} ({error}): PEM files, the key not encrypted"
        ) from error
    return context


def may_pass(token: str, header: str) -> bool:
    """Whether a request with this `Authorization` header may be answered; without a token all may."""
    # In constant time, so that how long a refusal takes tells nothing of the token.
    return not token or hmac.compare_digest(header.encode("utf-8", "surrogatepass"), f"Bearer {token}".encode())


def check_access(token: str, certificate: Path | None, key: Path | None) -> None:
    """Raises `ValueError` for a token that no header can carry, or a certificate without its key."""
    if not token.isascii() or any(letter.isspace() for letter in token):
        raise ValueError("token must be ASCII without spaces")
    if (certificate is None) != (key is None):
        raise ValueError("tls_certificate and tls_key must be both set or both left out")

"""Who may ask: a bearer token, where one is set (RFC 6750)."""

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/healthz",)
"""Paths that anyone may ask: a load balancer has no token."""


class TokenCheck:
    """Answers 401 to a request without `Authorization: Bearer TOKEN`; an empty token lets all pass."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._may_pass(scope):
            await self.app(scope, receive, send)
            return
        error = {"error": "a token is needed: Authorization: Bearer TOKEN (setting serve.token)"}
        await JSONResponse(error, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        got = Headers(scope=scope).get("authorization", "").encode("utf-8", "surrogatepass")
        # In constant time, so that how long a refusal takes tells nothing of the token.
        return self._expected is None or hmac.compare_digest(got, self._expected)

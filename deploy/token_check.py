"""Who may ask: a bearer token, where one is set (RFC 6750)."""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from streams.http_access import may_pass

OPEN = ("/healthz",)
"""Paths that anyone may ask: a load balancer has no token."""


class TokenCheck:
    """Answers 401 to a request without `Authorization: Bearer TOKEN`; an empty token lets all pass."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._may_pass(scope):
            await self.app(scope, receive, send)
            return
        error = {"error": "a token is needed: Authorization: Bearer TOKEN (setting serve.token)"}
        await JSONResponse(error, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        return may_pass(self._token, Headers(scope=scope).get("authorization", ""))

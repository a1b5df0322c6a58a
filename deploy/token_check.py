"""Who may ask: a bearer token, where one is set (RFC 6750)."""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from streams.http_access import may_pass

OPEN = ("/healthz", "/")
"""Paths that anyone may ask: a load balancer has no token, and the page asks for it."""
OPEN_FILES = "/page/files/"
"""Where the page's files are, which hold nothing of anybody."""


class TokenCheck:
    """Answers 401 to a request without `Authorization: Bearer TOKEN`; an empty token lets all pass."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        path = scope.get("path", "")
        is_open = scope["type"] != "http" or path in OPEN or path.startswith(OPEN_FILES)
        if is_open or self._may_pass(scope):
            await self.app(scope, receive, send)
            return
        error = {"error": "a token is needed: Authorization: Bearer TOKEN (setting serve.token)"}
        await JSONResponse(error, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        return may_pass(self._token, Headers(scope=scope).get("authorization", ""))

"""A limit on the requests that are answered at one time: what is too much is refused at once, not late."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

RETRY_AFTER_SECONDS = 1
"""What a 503 asks a client to wait."""
UNLIMITED = ("/healthz", "/metrics")
"""Paths that are answered whatever the load."""


class LoadLimit:
    """Answers 503 to a request that comes while `most` are under way; those are not slowed by it."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            await self.app(scope, receive, send)
            return
        if self._under_way >= self.most:
            error = {"error": f"{self.most} requests are under way (serve.max_requests): ask again"}
            await JSONResponse(error, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._under_way -= 1

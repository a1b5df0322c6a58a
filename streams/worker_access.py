"""The worker's HTTP views answer those who show its token."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

from streams.http_access import may_pass

OPEN = ("/live", "/ready")
"""Paths that anyone may ask: what restarts a worker has no token."""

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def token_check(token: str) -> Callable[[web.Request, _Handler], Awaitable[web.StreamResponse]]:
    """A middleware that answers 401 to a request without `Authorization: Bearer TOKEN`; with "" all pass."""

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path in OPEN or may_pass(token, request.headers.get("Authorization", "")):
            return await handler(request)
        error = {"error": "a token is needed: Authorization: Bearer TOKEN (setting worker.token)"}
        return web.json_response(error, status=401, headers={"WWW-Authenticate": "Bearer"})

    return check

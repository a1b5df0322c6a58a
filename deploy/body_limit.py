"""A limit on the size of request bodies, kept before anything is parsed."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1024 * 1024
"""Largest body of a request: 1,000 ids of 256 bytes need a quarter of it."""


class BodyTooLargeError(Exception):
    """A body that grew over the limit while it was read."""


class BodyLimit:
    """Answers 413 to a request whose body is larger than `MAX_BODY_BYTES`, whatever its header says."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_BODY_BYTES:
                raise BodyTooLargeError
            return message

        try:
            await self.app(scope, counted, send)
        except BodyTooLargeError:
            error = f"a body must be at most {MAX_BODY_BYTES} bytes"
            await JSONResponse({"error": error}, status_code=413)(scope, receive, send)

"""Bodies that are too large are refused before they are parsed."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request

from deploy.body_limit import MAX_BODY_BYTES, BodyLimit


def app_factory() -> FastAPI:
    app = FastAPI()
    app.add_middleware(BodyLimit)

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    return app


async def _in_parts(size: int) -> AsyncIterator[bytes]:
    """A body without a length in its header."""
    for _ in range(size // 1024):
        yield b"x" * 1024
    yield b"x" * (size % 1024)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(0, 200), (MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
def test_a_body_over_the_limit_is_answered_413(chunked: bool, size: int, status: int) -> None:
    """A request of many gigabytes would fill the memory before its ids are counted."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app_factory())
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post("/size", content=_in_parts(size) if chunked else b"x" * size)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    if status == 413:
        assert answer.json() == {"error": f"a body must be at most {MAX_BODY_BYTES} bytes"}
    else:
        assert answer.json() == size

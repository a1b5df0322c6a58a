"""What is kept out, and what is waited for, before an answer is made."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.load_limit import LoadLimit
from deploy.serve_settings import ServeSettings
from deploy.server import create_app
from tests.deploy.house import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_an_answer_is_of_the_version_that_is_asked_for_or_later(house: House) -> None:
    """A client that has seen a version would be answered by an older one of another replica."""
    house.publish(7)
    house.serving.rules = ServeSettings(min_version_seconds=0.1)
    wanted = ("run/v6", "run/v7", "run/v8", "other/v1")

    async def ask() -> list[httpx.Response]:
        answers = []
        async with house.client() as client:
            for version in wanted:
                asked: dict[str, Any] = {"user_id": "u", "min_version": version}
                answers.append(await client.get("/recommend", params=asked))
                answers.append(await client.post("/rank", json={**asked, "item_ids": ["i1"]}))
        return answers

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200] * 4 + [409] * 4
    assert answers[-1].json() == {"error": "min_version is other/v1, and run/v7 answers after 0.1 s"}


def test_a_version_that_comes_in_time_is_waited_for(house: House) -> None:
    """A client would be refused though the version is a moment away."""
    house.publish(1)
    house.serving.rules = ServeSettings(min_version_seconds=5.0)

    async def ask() -> httpx.Response:
        async with house.client() as client:
            asked = asyncio.create_task(client.get("/recommend", params={"user_id": "u", "min_version": "run/v2"}))
            await asyncio.sleep(0.1)
            assert not asked.done()
            await asyncio.to_thread(house.publish, 2)
            return await asked

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["model_version"]) == (200, "run/v2")


@pytest.mark.parametrize("wanted", ["", "7", "run/7", "run/v", "../v1", "run/v1234567890"])
def test_what_is_no_version_is_refused(house: House, wanted: str) -> None:
    house.publish(1)
    answer = house.ask("/recommend", user_id="u", min_version=wanted)
    assert answer.status_code == 422
    assert "min_version" in answer.json()["error"]


def test_more_requests_than_the_limit_are_refused_at_once() -> None:
    """Under too much load all answers would be late, instead of some refused."""

    async def run() -> list[int]:
        gate, entered = asyncio.Event(), asyncio.Semaphore(0)

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            entered.release()
            await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        transport = httpx.ASGITransport(LoadLimit(slow, most=2))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            first = [asyncio.create_task(client.get("/recommend")) for _ in range(2)]
            for _ in first:
                await entered.acquire()
            refused = await client.get("/recommend")
            assert refused.headers["retry-after"] == "1"
            assert "2 requests are under way (serve.max_requests)" in refused.json()["error"]
            healthy = asyncio.create_task(client.get("/healthz"))
            gate.set()
            answers = [*await asyncio.gather(*first), refused, await healthy, await client.get("/recommend")]
        return [answer.status_code for answer in answers]

    assert asyncio.run(run()) == [200, 200, 503, 200, 200]


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/recommend?user_id=u", "secret", 200),
        ("/recommend?user_id=u", "", 401),
        ("/recommend?user_id=u", "secre", 401),
        ("/metrics", "", 401),
        ("/docs", "", 401),
        ("/healthz", "", 200),
    ],
)
def test_without_the_token_nothing_is_told_but_health(house: House, path: str, token: str, status: int) -> None:
    """What users did would be anybody's to read."""
    house.publish(1)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(house.serving, ServeSettings(token="secret")))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answer = await client.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})
        await house.serving.stop()
        return answer

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert status == 200 or answer.headers["www-authenticate"] == "Bearer"
    assert "secret" not in repr(ServeSettings(token="secret"))

"""Several users in one request: each has an answer or an error, and no two versions are mixed."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from streams.partitioning import partition_of
from tests.deploy.house import House
from tests.deploy.models import recommender
from tests.deploy.test_server import QUERY_MS, sequence_of
from tests.deploy.workers import NUM_PARTITIONS, URLS

USERS = [f"u{number}" for number in range(12)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_each_user_has_the_list_of_a_request_alone(house: House) -> None:
    house.publish(3)
    body = house.send("POST", "/batch", json={"user_ids": USERS, "k": 4}).json()
    assert [part["user_id"] for part in body["answers"]] == USERS
    for part in body["answers"]:
        expected = recommender(3).recommend(sequence_of(part["user_id"]), now_ms=QUERY_MS, k=4)
        assert [item["item_id"] for item in part["answer"]["items"]] == [item_id for item_id, _ in expected]
        assert (part["answer"]["user_id"], part["answer"]["model_version"]) == (part["user_id"], "run/v3")
        assert part["error"] is None


def test_a_user_whose_worker_is_away_has_an_error_and_the_others_their_lists(house: House) -> None:
    """One worker down would fail every batch."""
    house.publish(1)
    house.workers.unreachable = {URLS[1]}
    body = house.send("POST", "/batch", json={"user_ids": USERS}).json()
    away = {user_id for user_id in USERS if house.workers.owners[partition_of(user_id, NUM_PARTITIONS)] == URLS[1]}
    assert 0 < len(away) < len(USERS)
    for part in body["answers"]:
        assert (part["answer"] is None) == (part["user_id"] in away)
        assert (URLS[1] in (part["error"] or "")) == (part["user_id"] in away)


def test_all_answers_are_of_one_version_while_versions_are_swapped(house: House) -> None:
    """Lists made side by side would be of two models."""
    house.publish(1)

    async def run() -> Any:
        async with house.client() as client:
            asked = asyncio.create_task(client.post("/batch", json={"user_ids": USERS}))
            await house.workers.asked_sequence.wait()
            house.publish(2)
            return (await asked).json(), (await client.post("/batch", json={"user_ids": USERS})).json()

    first, second = asyncio.run(run())
    assert {part["answer"]["model_version"] for part in first["answers"]} == {"run/v1"}
    assert {part["answer"]["model_version"] for part in second["answers"]} == {"run/v2"}


def test_a_batch_that_nobody_can_be_answered_in_is_refused_as_one(house: House) -> None:
    assert house.send("POST", "/batch", json={"user_ids": USERS}).status_code == 503


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"user_ids": []}, "at least 1 item"),
        ({"user_ids": ["u"] * 101}, "at most 100 items"),
        ({"user_ids": ["u", ""]}, "user_ids.1"),
        ({"user_ids": ["u"], "k": 101}, "less than or equal to 100"),
    ],
)
def test_a_batch_has_limits(house: House, asked: dict[str, Any], message: str) -> None:
    house.publish(1)
    answer: httpx.Response = house.send("POST", "/batch", json=asked)
    assert answer.status_code == 422
    assert message in answer.json()["error"]

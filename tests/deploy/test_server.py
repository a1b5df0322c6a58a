"""The HTTP answers: whole, of one version, and clear where there is none."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.freshness_parts import PARTS
from model.sequence import UserSequence
from model.user_features import UserFeature
from storage.aliases import Aliases
from storage.manifest import SampleMark
from streams.items import Item
from tests.deploy.house import EVENT_MS, House
from tests.deploy.models import ITEM_IDS, NOW_MS, recommender
from tests.deploy.workers import URLS

QUERY_MS = EVENT_MS + 2_500
"""The stream's present: its versions learned up to EVENT_MS and are 2.5 s old."""
COLUMNS = ("item_ids", "ts_ms", "actions", "values", "groups", "feature_segments")
EMPTY: dict[str, list[Any]] = {name: [] for name in COLUMNS}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def sequence_of(user_id: str, num_events: int = 2) -> UserSequence:
    """What the fake workers hold of every user."""
    columns = {"ts_ms": [10, 20], "actions": [0, 3], "groups": [5, 6], "new": [0, 0], "order": [0, 0]}
    integers: dict[str, Any] = {name: np.array(column[:num_events], np.int64) for name, column in columns.items()}
    return UserSequence(
        user_id=user_id,
        item_ids=list(ITEM_IDS[:num_events]),
        values=np.array([np.nan, 4.5], np.float32)[:num_events],
        features=[UserFeature(5, 0, "age", 30)] if num_events else [],
        **integers,
    )


@pytest.mark.parametrize(("path", "params"), [("/recommend", {"user_id": "u"}), ("/healthz", {})])
def test_before_the_first_snapshot_the_answer_is_503(house: House, path: str, params: dict[str, str]) -> None:
    answer = house.ask(path, **params)
    assert answer.status_code == 503
    assert answer.json() == {"error": "no snapshot has been published yet"}
    assert answer.headers["retry-after"] == "1"


def test_before_the_catalogue_is_read_the_answer_is_503(house: House) -> None:
    """Without it nobody knows what is not available."""
    house.publish(1)
    house.catalogue.ready = False
    answer = house.ask("/recommend", user_id="u")
    assert answer.status_code == 503
    assert "catalogue" in answer.json()["error"]


def test_recommend_answers_with_the_models_list(house: House) -> None:
    house.publish(7)
    expected = recommender(7).recommend(sequence_of("u"), now_ms=QUERY_MS, k=5)
    house.know(Item(item_id=expected[0][0], title="The first", categories=("Drama", "War")))
    body = house.ask("/recommend", user_id="u", k=5).json()
    assert [item["item_id"] for item in body["items"]] == [item_id for item_id, _ in expected]
    assert [item["score"] for item in body["items"]] == pytest.approx([score for _, score in expected])
    assert (body["items"][0]["title"], body["items"][0]["categories"]) == ("The first", ["Drama", "War"])
    assert (body["items"][1]["title"], body["items"][1]["categories"]) == ("", [])
    assert (body["model_version"], body["model_age_seconds"], body["applied"]) == ("run/v7", 2.5, 77)


def test_health_tells_the_streams_present_time(house: House) -> None:
    """A click sent into a replay of old events must carry the replay's time, not the clock's."""
    house.publish(1)
    body = house.ask("/healthz").json()
    assert (body["status"], body["model_version"], body["now_ms"]) == ("ok", "run/v1", QUERY_MS)


def test_health_and_metrics_tell_what_the_alias_stands_for(house: House) -> None:
    """Who rolled back asks every server whether it has followed."""
    house.publish(1)
    body = house.ask("/healthz").json()
    assert (body["alias"], body["generation"], body["pinned"]) == ("champion", 0, False)
    house.publish(2)
    Aliases(house.store).pin("champion", "run", 1, moved_ms=1)
    assert house.follower.poll()
    body = house.ask("/healthz").json()
    assert (body["model_version"], body["alias"], body["generation"], body["pinned"]) == ("run/v1", "champion", 1, True)
    lines = house.ask("/metrics").text.splitlines()
    assert 'headwater_alias_pinned{alias="champion"} 1.0' in lines
    assert 'headwater_alias_generation{alias="champion"} 1.0' in lines


def test_health_tells_of_a_rollback_that_cannot_be_followed(house: House) -> None:
    """The version that was meant to go away goes on answering, and somebody must know."""
    house.publish(1)
    house.publish(2)
    Aliases(house.store).pin("champion", "run", 1, moved_ms=1)
    house.store.objects.delete("headwater/run/v000000001/model.safetensors")
    assert not house.follower.poll()
    body = house.ask("/healthz").json()
    assert (body["model_version"], body["generation"], body["pinned"]) == ("run/v2", 1, True)
    assert "run/v1 cannot be loaded" in body["problem"]


def test_health_tells_what_the_weights_have_learned(house: House) -> None:
    """Whoever sends an event can wait until the weights that answer know it."""
    house.publish(1, sample_marks={"2": SampleMark(epoch=0, trigger_offset=41, n=0)})
    assert house.ask("/healthz").json()["learned"] == {"2": 41}


def test_items_that_are_not_available_never_appear(house: House) -> None:
    house.publish(1)
    gone = ITEM_IDS[::2]
    house.know(*(Item(item_id=item_id, available=False) for item_id in gone))
    listed = house.ask("/recommend", user_id="u", k=len(ITEM_IDS)).json()["items"]
    assert listed
    assert not {item["item_id"] for item in listed} & set(gone)


def test_ranking_leaves_out_what_is_not_available_and_says_so(house: House) -> None:
    house.publish(1)
    house.know(Item(item_id=ITEM_IDS[1], available=False))
    body = house.send("POST", "/rank", json={"user_id": "u", "item_ids": list(ITEM_IDS[:3])}).json()
    assert [item["item_id"] for item in body["items"]] == [ITEM_IDS[0], ITEM_IDS[2]]
    assert body["unavailable"] == [ITEM_IDS[1]]


def test_ranking_only_what_is_not_available_is_an_empty_answer(house: House) -> None:
    house.publish(1)
    house.know(Item(item_id=ITEM_IDS[1], available=False))
    body = house.send("POST", "/rank", json={"user_id": "u", "item_ids": [ITEM_IDS[1]]}).json()
    assert (body["items"], body["unavailable"]) == ([], [ITEM_IDS[1]])


def test_rank_answers_with_the_models_probabilities_in_the_order_asked(house: House) -> None:
    house.publish(3)
    asked = [ITEM_IDS[9], ITEM_IDS[2], ITEM_IDS[30]]
    body = house.send("POST", "/rank", json={"user_id": "u", "item_ids": asked}).json()
    expected = recommender(3).rank(sequence_of("u"), now_ms=QUERY_MS, item_ids=asked)
    assert [item["item_id"] for item in body["items"]] == asked
    for item, row in zip(body["items"], expected, strict=True):
        assert item["scores"] == pytest.approx(row)
        assert set(item["scores"]) == {"like", "dislike"}
    assert (body["model_version"], body["applied"]) == ("run/v3", 77)


def test_an_unknown_user_gets_what_a_newcomer_gets(house: House) -> None:
    house.publish(1)
    house.workers.body = dict(EMPTY)
    body = house.ask("/recommend", user_id="nobody", k=5).json()
    expected = recommender(1).recommend(sequence_of("nobody", 0), now_ms=QUERY_MS, k=5)
    assert [item["item_id"] for item in body["items"]] == [item_id for item_id, _ in expected]


def test_an_unreachable_worker_is_named_and_nothing_stale_is_answered(house: House) -> None:
    house.publish(1)

    async def run() -> tuple[httpx.Response, httpx.Response]:
        async with house.client() as client:
            served = await client.get("/recommend", params={"user_id": "u"})
            house.workers.unreachable = set(URLS)
            return served, await client.get("/recommend", params={"user_id": "u"})

    served, refused = asyncio.run(run())
    assert (served.status_code, refused.status_code) == (200, 503)
    assert all(url in refused.json()["error"] for url in URLS)


def test_a_worker_with_other_actions_is_refused(house: House) -> None:
    """Masks read with other names would feed the model dislikes as likes."""
    house.publish(1)
    house.workers.body = {"action_names": ["dislike", "like"]}
    answer = house.ask("/recommend", user_id="u")
    assert answer.status_code == 503
    assert "same settings" in answer.json()["error"]


@pytest.mark.parametrize("user_id", ["u", "a/b/sequence", "ü/ü", "x" * 256, "%2F?#&", "\n \n", "a\0"])
def test_a_users_sequence_is_shown_with_titles(house: House, user_id: str) -> None:
    """It needs no model, so that a first event can be seen before the first snapshot."""
    house.know(Item(item_id=ITEM_IDS[1], title="Second"))
    quoted = httpx.QueryParams({"id": user_id})
    path = str(quoted).removeprefix("id=").replace("+", "%20")
    body = house.ask(f"/users/{path}/sequence").json()
    assert body["user_id"] == user_id
    assert (body["model_version"], body["applied"], body["epoch"]) == (None, 77, 1)
    assert [event["actions"] for event in body["events"]] == [[], ["like", "dislike"]]
    assert [event["title"] for event in body["events"]] == ["", "Second"]
    assert [event["value"] for event in body["events"]] == [None, 4.5]


@pytest.mark.parametrize(
    ("method", "path", "arguments", "message"),
    [
        ("GET", "/recommend", {}, "user_id: Field required"),
        ("GET", "/recommend", {"params": {"user_id": ""}}, "1 to 256 bytes of UTF-8, got 0"),
        ("GET", "/recommend", {"params": {"user_id": "é" * 129}}, "1 to 256 bytes of UTF-8, got 258"),
        ("GET", "/recommend", {"params": {"user_id": "u", "k": 0}}, "k: Input should be greater than or equal to 1"),
        ("GET", "/recommend", {"params": {"user_id": "u", "k": 501}}, "k: Input should be less than or equal to 500"),
        ("GET", "/recommend", {"params": {"user_id": "u", "k": "x"}}, "k: Input should be a valid integer"),
        ("GET", f"/users/{'x' * 257}/sequence", {}, "1 to 256 bytes of UTF-8, got 257"),
        ("GET", "/users/u/sequence", {"params": {"last": 0}}, "last: "),
        ("POST", "/rank", {"json": {"user_id": "u", "item_ids": []}}, "item_ids: List should have at least 1 item"),
        ("POST", "/rank", {"json": {"user_id": "u", "item_ids": ["i"] * 1_001}}, "at most 1000 items"),
        ("POST", "/rank", {"json": {"user_id": "u", "item_ids": ["i", ""]}}, "item_ids.1: "),
        ("POST", "/rank", {"json": {"user_id": "u", "item_ids": ["i", 5]}}, "valid string"),
        ("POST", "/rank", {"content": b'{"user_id": "\\ud800", "item_ids": ["i"]}'}, "user_id: "),
        ("POST", "/rank", {"content": b"{"}, "JSON decode error"),
        ("POST", "/rank", {"content": b"[1]"}, "body: "),
    ],
)
def test_what_is_not_valid_is_refused_with_a_reason(
    house: House, method: str, path: str, arguments: dict[str, Any], message: str
) -> None:
    house.publish(1)
    answer = house.send(method, path, headers={"content-type": "application/json"}, **arguments)
    assert answer.status_code == 422
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [("GET", "/nowhere", b"", 404), ("PUT", "/rank", b"", 405), ("POST", "/rank", b"\xff\xfe", 422)],
)
def test_every_error_has_one_shape(house: House, method: str, path: str, content: bytes, status: int) -> None:
    answer = house.send(method, path, headers={"content-type": "application/json"}, content=content)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_every_answer_comes_from_exactly_one_version_while_versions_are_swapped(house: House) -> None:
    """An answer that mixes two versions' weights, or carries another's name, belongs to no model."""
    last_version = 25
    house.publish(1)
    expected = {
        version: [item_id for item_id, _ in recommender(version).recommend(sequence_of("u"), now_ms=QUERY_MS, k=8)]
        for version in range(1, last_version + 1)
    }
    assert len({tuple(item_ids) for item_ids in expected.values()}) == last_version
    seen = {version: asyncio.Event() for version in expected}

    async def swap() -> None:
        for version in range(2, last_version + 1):
            await asyncio.to_thread(house.publish, version)
            # On a busy machine all could be swapped before anything is answered.
            if version % 8 == 0:
                await seen[version].wait()

    async def ask(client: httpx.AsyncClient, swapping: asyncio.Task[None]) -> None:
        while not swapping.done():
            body = (await client.get("/recommend", params={"user_id": "u", "k": 8})).json()
            version = int(body["model_version"].removeprefix("run/v"))
            assert [item["item_id"] for item in body["items"]] == expected[version]
            seen[version].set()

    async def run() -> None:
        async with house.client() as client, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            swapping = tasks.create_task(swap())
            for _ in range(4):
                tasks.create_task(ask(client, swapping))

    asyncio.run(run())


def test_freshness_is_measured_at_the_first_answer(house: House) -> None:
    house.publish(1, learned_kafka_ms=[(0, 500)])
    house.publish(2, learned_kafka_ms=[(NOW_MS - 4_000, 9), (NOW_MS - 7_000, 1)])

    async def run() -> tuple[Any, Any]:
        async with house.client() as client:
            before = (await client.get("/freshness")).json()
            await client.post("/rank", json={"user_id": "u", "item_ids": [ITEM_IDS[0]]})
            await client.get("/recommend", params={"user_id": "u"})
            return before, (await client.get("/freshness")).json()

    before, after = asyncio.run(run())
    assert before["event_to_weights"] == {"count": 0, "p50_seconds": None, "p95_seconds": None}
    assert after["event_to_weights"] == {"count": 10, "p50_seconds": 4.01, "p95_seconds": 7.01}
    assert list(after["parts"]) == list(PARTS)
    assert {part["count"] for part in after["parts"].values()} == {10}
    # A version that an older learner cut 2.5 s ago: all before is one wait.
    assert after["parts"]["wait"]["p50_seconds"] == 1.51
    assert (after["versions_seen"], after["model_version"]) == (2, "run/v2")


def test_metrics_are_in_prometheus_format(house: House) -> None:
    house.publish(4)
    house.know(Item(item_id="a"))

    async def run() -> str:
        async with house.client() as client:
            await client.get("/recommend", params={"user_id": "u"})
            await client.get("/nowhere")
            return (await client.get("/metrics")).text

    families = {family.name: family for family in text_string_to_metric_families(asyncio.run(run()))}
    version = families["headwater_model_version"].samples[0]
    assert (version.labels, version.value) == ({"run_id": "run"}, 4)
    assert families["headwater_catalogue_items"].samples[0].value == 1
    assert families["headwater_snapshots_loaded"].samples[0].value == 1
    counts = {
        (sample.labels["path"], sample.labels["status"]): sample.value
        for sample in families["headwater_request_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert counts == {("/recommend", "200"): 1, ("unmatched", "404"): 1}


def test_an_item_that_is_to_be_forgotten_is_in_no_sequence_that_is_told(house: House) -> None:
    """No answer is to name it; its event stays where the user's own are kept."""
    house.know(Item(item_id=ITEM_IDS[0], forgotten=True, available=False), Item(item_id=ITEM_IDS[1], available=False))
    events = house.ask("/users/u/sequence").json()["events"]
    assert [event["item_id"] for event in events] == [ITEM_IDS[1]]


def test_the_api_describes_itself(house: House) -> None:
    paths = house.ask("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/recommend",
        "/rank",
        "/batch",
        "/explain",
        "/users/{user_id}/sequence",
        "/healthz",
        "/freshness",
        "/metrics",
    }
    assert {"200", "401", "409", "422", "503"} == set(paths["/recommend"]["get"]["responses"])
    assert {"200", "401", "422", "503"} == set(paths["/users/{user_id}/sequence"]["get"]["responses"])

"""The server's client, and an action that is sent and waited for."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy import client as module
from deploy.client import RefusedError, ServerClient, send_action
from deploy.server import create_app
from storage.errors import SetupError
from streams.events import Action, Event
from streams.http_access import HttpAccess
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings
from tests.deploy.house import House

Handler = Callable[[httpx.Request], httpx.Response]


HEALTH: dict[str, Any] = {
    "status": "ok",
    "model_version": "run/v1",
    "model_age_seconds": 1.5,
    "alias": "champion",
    "generation": 0,
    "pinned": False,
    "learned": {},
    "now_ms": 893_286_638_000,
    "problem": None,
    "sides": [],
}
EVENT: dict[str, Any] = {
    "item_id": "50",
    "title": "",
    "categories": [],
    "ts_ms": 1,
    "actions": ["like"],
    "value": None,
    "group": 1,
}
SEQUENCE: dict[str, Any] = {
    "model_version": None,
    "model_age_seconds": None,
    "user_id": "ada",
    "partition": 0,
    "epoch": 0,
    "applied": 8,
    "features": {},
    "events": [EVENT],
}
MADE = {"model_version": "run/v1", "model_age_seconds": 1.5, "alias": "champion", "user_id": "a&k=9", "applied": 8}


class Server:
    """Answers from `handler` and keeps what was asked."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.handler: Handler = lambda request: httpx.Response(200, json=self.body(request.url.path))

    def body(self, path: str) -> dict[str, Any]:
        if path == "/healthz":
            return HEALTH
        return SEQUENCE if path.endswith("/sequence") else {**MADE, "items": [], "unavailable": []}

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.handler(request)

    @property
    def asked(self) -> list[str]:
        return [str(request.url) for request in self.requests]

    def client(self, **changes: Any) -> ServerClient:
        return ServerClient("http://server:1/", transport=httpx.MockTransport(self.answer), **changes)


@pytest.fixture
def server() -> Server:
    return Server()


def test_requests_name_the_user_whatever_the_id_is(server: Server) -> None:
    """A user id with a slash or an ampersand would ask for another page."""
    client = server.client()
    assert client.recommend("a&k=9", 3).user_id == "a&k=9"
    client.sequence("a/b?c", last=5)
    client.health()
    assert server.asked == [
        "http://server:1/recommend?user_id=a%26k%3D9&k=3",
        "http://server:1/users/a%2Fb%3Fc/sequence?last=5",
        "http://server:1/healthz",
    ]


def test_a_server_that_is_away_is_one_line(server: Server) -> None:
    """A traceback says nothing of the command that starts it."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    server.handler = refuse
    message = r"no answer from http://server:1 \(connection refused\); start it with: headwater serve"
    with pytest.raises(SetupError, match=message):
        server.client().health()


def test_an_error_of_the_server_is_passed_on(server: Server) -> None:
    """Why the list is missing would be lost."""
    server.handler = lambda request: httpx.Response(503, text="no model yet" + "!" * 1_000)
    with pytest.raises(SetupError, match="http://server:1/healthz answered 503: no model yet") as raised:
        server.client().health()
    assert len(str(raised.value)) < 600
    # Who waits until a server is ready asks again by itself.
    assert len(server.requests) == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only sleeping moves."""
    made = SimpleNamespace(now=0.0, slept=0)

    def sleep(seconds: float) -> None:
        made.now += seconds
        made.slept += 1

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=sleep))
    return made


def test_waiting_ends_once_the_sequence_can_hold_the_record(server: Server, clock: SimpleNamespace) -> None:
    """The list after a click would be computed without the click."""
    server.handler = lambda request: httpx.Response(200, json={**SEQUENCE, "applied": 5 + clock.slept})
    answer = server.client().wait_applied("ada", 8)
    assert (answer.applied, answer.events[0].item_id) == (8, "50")
    assert clock.slept == 3


def test_waiting_for_a_worker_that_is_away_ends(server: Server, clock: SimpleNamespace) -> None:
    """A click would hang."""
    server.handler = lambda request: httpx.Response(200, json={**SEQUENCE, "applied": 5})
    with pytest.raises(SetupError, match=r"the event at offset 8 is not in a sequence after 30 s; is a worker up?"):
        server.client().wait_applied("ada", 8)


class Producer:
    """Stands for `EventProducer`."""

    sent: list[Event]
    error: Exception | None

    def __init__(self, servers: tuple[str, ...], *, topic: str, security: object, connect_seconds: float) -> None:
        assert (servers, topic, connect_seconds) == (("127.0.0.1:9092",), "events", 10.0)
        assert security == {"security_protocol": "PLAINTEXT"}

    def __enter__(self) -> "Producer":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, event: Event) -> Future[Any]:
        Producer.sent.append(event)
        future: Future[Any] = Future()
        if Producer.error:
            future.set_exception(Producer.error)
        else:
            future.set_result(SimpleNamespace(offset=8))
        return future


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> type[Producer]:
    monkeypatch.setattr("streams.delivery.EventProducer", Producer)
    Producer.sent, Producer.error = [], None
    return Producer


def test_an_action_is_sent_at_the_stream_s_time_and_waited_for(
    server: Server, producer: type[Producer], clock: SimpleNamespace
) -> None:
    """By the wall clock an action of today would lie decades after the replayed ratings."""
    client = server.client()
    send_action(client, KafkaSettings(), TopicSettings(), "ada", "50", "like", 5.0)
    (event,) = producer.sent
    assert isinstance(event, Action)
    assert (event.user_id, event.item_id, event.action, event.value) == ("ada", "50", "like", 5.0)
    assert event.ts_ms == 893_286_638_000
    assert event.request_id is None
    send_action(client, KafkaSettings(), TopicSettings(), "ada", "50", "like")
    assert producer.sent[1].event_id != event.event_id


@pytest.mark.parametrize("error", [KafkaTimeoutError("10 s"), TimeoutError()])
def test_a_broker_that_is_away_is_one_line(server: Server, producer: type[Producer], error: Exception) -> None:
    """A traceback says nothing of the setting to change."""
    producer.error = error
    with pytest.raises(SetupError, match=r"no answer from Kafka at 127\.0\.0\.1:9092 .*kafka\.bootstrap_servers"):
        send_action(server.client(), KafkaSettings(), TopicSettings(), "ada", "50", "like")


def test_an_action_that_was_refused_is_an_error(
    server: Server, producer: type[Producer], clock: SimpleNamespace
) -> None:
    """A mistyped action would be reported as being in the sequence."""
    held = {**SEQUENCE, "events": [{**EVENT, "actions": ["dislike"]}]}
    server.handler = lambda request: httpx.Response(200, json=HEALTH if request.url.path == "/healthz" else held)
    with pytest.raises(SetupError, match="like 50 is not in the sequence of ada: refused\\? see headwater dlq ls"):
        send_action(server.client(), KafkaSettings(), TopicSettings(), "ada", "50", "like")


def test_what_is_asked_in_a_body_is_sent_as_json(server: Server) -> None:
    """Ids with any letter reach the server whole."""
    server.handler = lambda request: httpx.Response(
        200, json={"answers": []} if request.url.path == "/batch" else server.body(request.url.path)
    )
    client = server.client(access=HttpAccess(token="secret"))
    client.rank("ü&", ["a", "b/c"], min_version="run/v2")
    client.batch(["u", "ü"], k=3)
    assert [json.loads(request.content) for request in server.requests] == [
        {"user_id": "ü&", "item_ids": ["a", "b/c"], "min_version": "run/v2"},
        {"user_ids": ["u", "ü"], "k": 3, "min_version": None},
    ]
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer secret"}
    assert {request.method for request in server.requests} == {"POST"}


def test_an_explanation_is_asked_for(server: Server) -> None:
    parts = dict.fromkeys(("score", "similarity", "popularity", "transitions"), 0.5)
    body = {**MADE, **parts, "item": {"item_id": "50", "title": "", "categories": []}, "events": [], "actions": {}}
    body |= {"available": True, "acted_on": False, "has_row": True, "last_event_ms": None, "learned_offset": 7}
    server.handler = lambda request: httpx.Response(200, json={**body, "version_ms": 1})
    answer = server.client().explain("u", "50", last=4, min_version="run/v1")
    assert (answer.item.item_id, answer.learned_offset) == ("50", 7)
    assert server.asked == ["http://server:1/explain?user_id=u&item_id=50&last=4&min_version=run%2Fv1"]


def test_a_503_is_asked_again_after_the_time_that_it_names(server: Server, clock: SimpleNamespace) -> None:
    """A server that sheds load for a second would fail its clients."""
    refusals = iter([{"Retry-After": "3"}, {"Retry-After": "900"}])

    def busy_at_first(request: httpx.Request) -> httpx.Response:
        headers = next(refusals, None)
        return httpx.Response(200, json=server.body("")) if headers is None else httpx.Response(503, headers=headers)

    server.handler = busy_at_first
    assert server.client().recommend("u").items == []
    assert (clock.slept, clock.now) == (2, 3 + 5)


@pytest.mark.parametrize("told", [b"", b"Wed, 21 Oct 2026 07:28:00 GMT", b"\xb2", b"-1"])
def test_a_server_that_stays_busy_is_given_up(server: Server, clock: SimpleNamespace, told: bytes) -> None:
    """A client would wait for ever."""
    server.handler = lambda request: httpx.Response(503, headers=[(b"Retry-After", told)], text="busy")
    with pytest.raises(RefusedError, match="answered 503: busy") as raised:
        server.client().recommend("u")
    assert (raised.value.status, len(server.requests), clock.now) == (503, 3, 2.0)


def test_an_error_other_than_503_is_told_at_once(server: Server, clock: SimpleNamespace) -> None:
    server.handler = lambda request: httpx.Response(409, text="older")
    with pytest.raises(RefusedError) as raised:
        server.client().recommend("u", min_version="run/v9")
    assert (raised.value.status, clock.slept) == (409, 0)


def test_what_is_no_answer_of_a_server_is_one_line(server: Server) -> None:
    """Another program on the port, or a server of another version."""
    server.handler = lambda request: httpx.Response(200, text="<html>")
    with pytest.raises(SetupError, match="http://server:1 does not answer as a server of this version does"):
        server.client().recommend("u")


def test_every_answer_of_a_server_has_the_type_that_the_client_says(tmp_path: Path) -> None:
    """The client would refuse what the server answers."""
    house = House(tmp_path)
    house.publish(1)
    portal = asyncio.Runner()
    app = httpx.ASGITransport(create_app(house.serving))

    def forward(request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            sent = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
            answered = await app.handle_async_request(sent)
            return httpx.Response(answered.status_code, content=await answered.aread())

        return portal.run(answer())

    with portal, ServerClient("http://server:1", transport=httpx.MockTransport(forward)) as client:
        assert client.health().sides[0].alias == "champion"
        assert len(client.recommend("u", 3).items) == 3
        assert client.rank("u", ["i1"]).items[0].scores.keys() == {"like", "dislike"}
        assert [part.error for part in client.batch(["u", "v"]).answers] == [None, None]
        assert len(client.explain("u", "i9").events) == 2
        assert client.sequence("u").events[1].actions == ["like", "dislike"]
        portal.run(house.serving.stop())


def test_the_client_is_light() -> None:
    """A program that only asks would load a trainer."""
    code = "import sys, deploy.client; print([name for name in sys.argv[1:] if name in sys.modules])"
    heavy = ("torch", "numba", "faust", "kafka", "rocksdict", "fastapi", "pyarrow")
    ended = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"

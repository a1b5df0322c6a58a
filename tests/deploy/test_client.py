"""The server's client, and an action that is sent and waited for."""

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy import client as module
from deploy.client import ServerClient, send_action
from storage.errors import SetupError
from streams.events import Action, Event
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> "Server":
    made = Server()
    monkeypatch.setattr(httpx, "get", made.get)
    return made


class Server:
    """Answers from `handler` and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.handler: Handler = lambda request: httpx.Response(200, json={})

    def get(self, url: str, *, params: Any, headers: Any, verify: Any, timeout: float) -> httpx.Response:
        assert timeout > 0
        assert verify is True
        request = httpx.Request("GET", url, params=params, headers=headers)
        self.asked.append(str(request.url))
        return self.handler(request)


def test_requests_name_the_user_whatever_the_id_is(server: Server) -> None:
    """A user id with a slash or an ampersand would ask for another page."""
    client = ServerClient("http://server:1/")
    client.recommend("a&k=9", 3)
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
        ServerClient("http://server:1").health()


def test_an_error_of_the_server_is_passed_on(server: Server) -> None:
    """Why the list is missing would be lost."""
    server.handler = lambda request: httpx.Response(503, text="no model yet" + "!" * 1_000)
    with pytest.raises(SetupError, match="http://server:1/healthz answered 503: no model yet") as raised:
        ServerClient("http://server:1").health()
    assert len(str(raised.value)) < 600


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
    server.handler = lambda request: httpx.Response(200, json={"applied": 5 + clock.slept})
    answer = ServerClient("http://server:1").wait_applied("ada", 8)
    assert answer == {"applied": 8}
    assert clock.slept == 3


def test_waiting_for_a_worker_that_is_away_ends(server: Server, clock: SimpleNamespace) -> None:
    """A click would hang."""
    server.handler = lambda request: httpx.Response(200, json={"applied": 5})
    with pytest.raises(SetupError, match=r"the event at offset 8 is not in a sequence after 30 s; is a worker up?"):
        ServerClient("http://server:1").wait_applied("ada", 8)


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
    held = {"now_ms": 893_286_638_000, "applied": 8, "events": [{"item_id": "50", "actions": ["like"]}]}
    server.handler = lambda request: httpx.Response(200, json=held)
    client = ServerClient("http://server:1")
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
    server.handler = lambda request: httpx.Response(200, json={"now_ms": 1})
    producer.error = error
    with pytest.raises(SetupError, match=r"no answer from Kafka at 127\.0\.0\.1:9092 .*kafka\.bootstrap_servers"):
        send_action(ServerClient("http://server:1"), KafkaSettings(), TopicSettings(), "ada", "50", "like")


def test_an_action_that_was_refused_is_an_error(
    server: Server, producer: type[Producer], clock: SimpleNamespace
) -> None:
    """A mistyped action would be reported as being in the sequence."""
    held = {"now_ms": 0, "applied": 8, "events": [{"item_id": "50", "actions": ["dislike"]}]}
    server.handler = lambda request: httpx.Response(200, json=held)
    with pytest.raises(SetupError, match="like 50 is not in the sequence of ada: refused\\? see headwater dlq ls"):
        send_action(ServerClient("http://server:1"), KafkaSettings(), TopicSettings(), "ada", "50", "like")

"""A typed client of the server's HTTP endpoints, for the command line, the demo and other people's programs.

To import it is light: neither torch nor Kafka's client comes with it.
"""

import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from deploy.answers import (
    BatchAnswer,
    ExplainAnswer,
    HealthAnswer,
    RankAnswer,
    RecommendAnswer,
    SequenceAnswer,
)
from deploy.serve_settings import ServeSettings
from storage.errors import SetupError
from streams.events import Action
from streams.http_access import HttpAccess

if TYPE_CHECKING:
    from streams.kafka_settings import KafkaSettings
    from streams.topics import TopicSettings

TIMEOUT_SECONDS = 10.0
"""How long the server may take to answer."""
NUM_RETRIES = 2
"""How often a 503 is asked again."""
MAX_RETRY_SECONDS = 5.0
"""Longest pause before that, whatever `Retry-After` says."""
MAX_EVENTS = 1_000
"""Most events of a sequence that the server gives at once."""
APPLIED_SECONDS = 30.0
"""How long an event may take into its user's sequence."""

_Answer = TypeVar("_Answer", bound=BaseModel)


class RefusedError(SetupError):
    """The server answered with an error; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ServerClient:
    """Asks a server; every method raises `SetupError`, one line, where it does not answer as hoped.

    That is `RefusedError` where it answers with an error: 409 for a `min_version` that does not come in time, 422 for a
    request that is not valid, 503 where nothing can be answered, after `num_retries` pauses as long as `Retry-After`
    says. Connections are kept until `close`, or the end of a `with`. Threads may share a client.

    >>> def server(request: httpx.Request) -> httpx.Response:  # stands for a server here
    ...     item = {"item_id": "50", "title": "Star Wars (1977)", "categories": [], "score": 3.25}
    ...     version = {"model_version": "run/v42", "model_age_seconds": 1.5, "alias": "champion", "applied": 7}
    ...     return httpx.Response(200, json={**version, "user_id": request.url.params["user_id"], "items": [item]})
    >>> with ServerClient("http://127.0.0.1:8080", transport=httpx.MockTransport(server)) as client:
    ...     answer = client.recommend("ada", k=1)
    >>> answer.model_version, [(item.title, item.score) for item in answer.items]
    ('run/v42', [('Star Wars (1977)', 3.25)])
    """

    def __init__(
        self,
        url: str,
        access: HttpAccess = HttpAccess(),  # noqa: B008 - frozen
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        num_retries: int = NUM_RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`access` is what the server asks for; `transport` replaces the network."""
        self.url = url.rstrip("/")
        self.num_retries = num_retries
        self._http = httpx.Client(
            headers=access.headers, verify=access.trust(), timeout=timeout_seconds, transport=transport
        )

    def __enter__(self) -> "ServerClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> HealthAnswer:
        """Model version, its age, and the stream's present time; 503 is told at once."""
        return self._get(HealthAnswer, "/healthz", num_retries=0)

    def is_ready(self) -> bool:
        """Whether the server answers from a model."""
        try:
            self.health()
        except SetupError:
            return False
        return True

    def recommend(self, user_id: str, k: int = 10, *, min_version: str | None = None) -> RecommendAnswer:
        """The k best items for a user."""
        return self._get(RecommendAnswer, "/recommend", user_id=user_id, k=k, min_version=min_version)

    def batch(self, user_ids: Sequence[str], k: int = 10, *, min_version: str | None = None) -> BatchAnswer:
        """The k best items for each of up to 100 users; an error of one is in its place."""
        asked = {"user_ids": list(user_ids), "k": k, "min_version": min_version}
        return self._ask(BatchAnswer, self._http.build_request("POST", f"{self.url}/batch", json=asked))

    def rank(self, user_id: str, item_ids: Sequence[str], *, min_version: str | None = None) -> RankAnswer:
        """The probability of each action of a user on each of up to 1,000 items."""
        asked = {"user_id": user_id, "item_ids": list(item_ids), "min_version": min_version}
        return self._ask(RankAnswer, self._http.build_request("POST", f"{self.url}/rank", json=asked))

    def explain(self, user_id: str, item_id: str, last: int = 16, *, min_version: str | None = None) -> ExplainAnswer:
        """Why an item has its score for a user, by each of the user's newest `last` events."""
        return self._get(
            ExplainAnswer, "/explain", user_id=user_id, item_id=item_id, last=last, min_version=min_version
        )

    def sequence(self, user_id: str, last: int = 100) -> SequenceAnswer:
        """A user's newest events."""
        return self._get(SequenceAnswer, f"/users/{quote(user_id, safe='')}/sequence", last=last)

    def wait_applied(self, user_id: str, offset: int) -> SequenceAnswer:
        """The user's sequence once it can contain the record at that offset."""
        deadline = time.monotonic() + APPLIED_SECONDS
        while time.monotonic() < deadline:
            if self.sequence(user_id, last=1).applied >= offset:
                return self.sequence(user_id, last=MAX_EVENTS)
            time.sleep(0.02)
        raise SetupError(
            f"the event at offset {offset} is not in a sequence after {APPLIED_SECONDS:.0f} s; is a worker up?"
        )

    def _get(
        self, answer: type[_Answer], path: str, num_retries: int | None = None, **asked: str | int | None
    ) -> _Answer:
        params = {name: value for name, value in asked.items() if value is not None}
        return self._ask(answer, self._http.build_request("GET", self.url + path, params=params), num_retries)

    def _ask(self, answer: type[_Answer], request: httpx.Request, num_retries: int | None = None) -> _Answer:
        response = self._send(request)
        for _ in range(self.num_retries if num_retries is None else num_retries):
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(_pause_seconds(response))
            response = self._send(request)
        if not response.is_success:
            message = f"{self.url}{request.url.path} answered {response.status_code}: {response.text[:500]}"
            raise RefusedError(message, response.status_code)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            what = error.errors(include_url=False, include_input=False)[0]
            raise SetupError(f"{self.url} does not answer as a server of this version does: {what}") from error

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request)
        except httpx.HTTPError as error:
            raise SetupError(f"no answer from {self.url} ({error}); start it with: headwater serve") from error


def _pause_seconds(response: httpx.Response) -> float:
    told = response.headers.get("Retry-After", "")
    return min(float(told), MAX_RETRY_SECONDS) if told.isascii() and told.isdigit() else 1.0


def client_of(serve: ServeSettings, url: str = "") -> ServerClient:
    """A client of the server with these settings, or of that at `url` with the same token."""
    return ServerClient(url or serve.url, HttpAccess(token=serve.token, certificate=serve.tls_certificate))


def send_action(
    client: ServerClient,
    kafka: "KafkaSettings",
    topics: "TopicSettings",
    user_id: str,
    item_id: str,
    action: str,
    value: float | None = None,
) -> SequenceAnswer:
    """Send an action at the stream's present time; the user's sequence once it holds it.

    Raises `SetupError` where a process does not answer or the action was refused.
    """
    from streams.delivery import deliver

    event = Action(
        event_id=uuid.uuid4().hex,
        user_id=user_id,
        item_id=item_id,
        action=action,
        value=value,
        ts_ms=client.health().now_ms,
    )
    delivery = deliver(kafka, topics.events, lambda producer: producer.send(event))
    sequence = client.wait_applied(user_id, delivery.offset)
    if not any(event.item_id == item_id and action in event.actions for event in sequence.events):
        raise SetupError(f"{action} {item_id} is not in the sequence of {user_id}: refused? see headwater dlq ls")
    return sequence

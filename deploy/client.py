"""A client of the server's HTTP endpoints, for the command line and the demo."""

import time
import uuid
from typing import Any
from urllib.parse import quote

import httpx

from deploy.serve_settings import ServeSettings
from storage.errors import SetupError
from streams.delivery import deliver
from streams.events import Action
from streams.http_access import HttpAccess
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

TIMEOUT_SECONDS = 10.0
"""How long the server may take to answer."""
MAX_EVENTS = 1_000
"""Most events of a sequence that the server gives at once."""
APPLIED_SECONDS = 30.0
"""How long an event may take into its user's sequence."""


class ServerClient:
    """Asks a server; every method raises `SetupError`, one line, where it does not answer as hoped."""

    def __init__(self, url: str, access: HttpAccess = HttpAccess()) -> None:  # noqa: B008 - frozen
        self.url = url.rstrip("/")
        self._headers = access.headers
        self._verify = access.trust()

    def health(self) -> dict[str, Any]:
        """Model version, its age, and the stream's present time."""
        return self._get("/healthz")

    def is_ready(self) -> bool:
        """Whether the server answers from a model."""
        try:
            self.health()
        except SetupError:
            return False
        return True

    def recommend(self, user_id: str, k: int) -> dict[str, Any]:
        """The k best items for a user."""
        return self._get("/recommend", user_id=user_id, k=k)

    def sequence(self, user_id: str, last: int = 100) -> dict[str, Any]:
        """A user's newest events."""
        return self._get(f"/users/{quote(user_id, safe='')}/sequence", last=last)

    def wait_applied(self, user_id: str, offset: int) -> dict[str, Any]:
        """The user's sequence once it can contain the record at that offset."""
        deadline = time.monotonic() + APPLIED_SECONDS
        while time.monotonic() < deadline:
            if self.sequence(user_id, last=1)["applied"] >= offset:
                return self.sequence(user_id, last=MAX_EVENTS)
            time.sleep(0.02)
        raise SetupError(
            f"the event at offset {offset} is not in a sequence after {APPLIED_SECONDS:.0f} s; is a worker up?"
        )

    def _get(self, path: str, **parameters: str | int) -> dict[str, Any]:
        try:
            answer = httpx.get(
                self.url + path,
                params=parameters,
                headers=self._headers,
                verify=self._verify,
                timeout=TIMEOUT_SECONDS,
            )
        except httpx.HTTPError as error:
            raise SetupError(f"no answer from {self.url} ({error}); start it with: headwater serve") from error
        if answer.is_success:
            return dict(answer.json())
        raise SetupError(f"{self.url}{path} answered {answer.status_code}: {answer.text[:500]}")


def client_of(serve: ServeSettings, url: str = "") -> ServerClient:
    """A client of the server with these settings, or of that at `url` with the same token."""
    return ServerClient(url or serve.url, HttpAccess(token=serve.token, certificate=serve.tls_certificate))


def send_action(
    client: ServerClient,
    kafka: KafkaSettings,
    topics: TopicSettings,
    user_id: str,
    item_id: str,
    action: str,
    value: float | None = None,
) -> dict[str, Any]:
    """Send an action at the stream's present time; the user's sequence once it holds it.

    Raises `SetupError` where a process does not answer or the action was refused.
    """
    event = Action(
        event_id=uuid.uuid4().hex,
        user_id=user_id,
        item_id=item_id,
        action=action,
        value=value,
        ts_ms=int(client.health()["now_ms"]),
    )
    delivery = deliver(kafka, topics.events, lambda producer: producer.send(event))
    sequence = client.wait_applied(user_id, delivery.offset)
    if not any(event["item_id"] == item_id and action in event["actions"] for event in sequence["events"]):
        raise SetupError(f"{action} {item_id} is not in the sequence of {user_id}: refused? see headwater dlq ls")
    return sequence

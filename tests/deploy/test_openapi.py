"""The API keeps to its own description, whatever is sent to it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.core.result import Ok
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.server import create_app
from streams.events import MAX_ID_BYTES
from streams.items import Item
from tests.deploy.house import House


class _WithoutLifespan:
    """The parts are not started: there is no broker."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description of a server with a small model, which answers what is asked by it."""
    rules = {"action_weights": ("like=1",), "max_per_category": 1, "fresh_slots": 2, "min_version_seconds": 0.01}
    house = House(tmp_path_factory.mktemp("snapshots"), **rules)
    house.publish(1)
    house.know(Item(item_id="i1", categories=("War",)), Item(item_id="i2", available=False), Item(item_id="new"))
    app = _WithoutLifespan(create_app(house.serving))
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    asyncio.run(house.serving.stop())


def _ids_are_short(case: "schemathesis.Case[Any]") -> bool:
    """The description counts characters, and the server bytes."""
    body = case.body if isinstance(case.body, dict) else {}
    lists = [texts for texts in body.values() if isinstance(texts, list)]
    texts = [
        *case.query.values(),
        *case.path_parameters.values(),
        *body.values(),
        *(text for each in lists for text in each),
    ]
    return all(len(text.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES for text in texts if isinstance(text, str))


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_as_described(described: schemathesis.BaseSchema, mode: schemathesis.GenerationMode) -> None:
    """A client made from the description would fail on an answer that is none of those described."""
    num_cases = 0

    def check(case: "schemathesis.Case[Any]") -> None:
        nonlocal num_cases
        hypothesis.assume(_ids_are_short(case))
        num_cases += 1
        case.call_and_validate()

    limits = hypothesis.settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for found in described.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        # Where nothing is asked, nothing can be asked wrongly.
        if mode is schemathesis.GenerationMode.POSITIVE or operation.query or operation.body:
            limits(hypothesis.given(operation.as_strategy(generation_mode=mode))(check))()
    assert num_cases > 50, "nothing was tried"

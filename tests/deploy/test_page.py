"""The live page: what it is told, what it may do, and that it loads and runs nothing of others."""

import asyncio
import json
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy import page_series
from deploy.broker import free_port
from deploy.page_clicks import Clicks
from deploy.page_routes import FILES, FOLDER
from deploy.page_series import MAX_USERS, PageSeries
from deploy.serve_settings import ServeSettings
from deploy.server import create_app
from storage.errors import SetupError
from storage.manifest import SampleMark, Table
from streams.events import Action, decode_event
from streams.kafka_settings import KafkaSettings
from streams.plain_log import read_topic
from streams.producer import Delivery, EventProducer
from tests.brokers import Broker, fresh_topics
from tests.deploy.house import EVENT_MS, House
from tests.deploy.models import ITEM_IDS, NOW_MS, SETTINGS
from tests.deploy.workers import URLS

ACTIONS = SETTINGS.actions
CLICK = {"user_id": "u", "item_id": ITEM_IDS[0], "action": ACTIONS[0]}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


class NoBroker:
    """Takes clicks as `Clicks` does, and keeps them; or finds no broker."""

    def __init__(self, error: SetupError | None = None) -> None:
        self.sent: list[tuple[str, str, str, int]] = []
        self.error = error

    async def send(self, *click: Any) -> Delivery:
        if self.error is not None:
            raise self.error
        self.sent.append(click)
        return Delivery(partition=3, offset=77)


@asynccontextmanager
async def client(house: House, clicks: object = None, **serve: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(house.serving, ServeSettings(**serve), cast("Clicks", clicks)))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as made:
            yield made
    finally:
        await house.serving.stop()


def ask(house: House, method: str, path: str, clicks: object = None, **arguments: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with client(house, clicks) as made:
            return await made.request(method, path, **arguments)

    return asyncio.run(send())


def test_each_version_that_answers_is_a_point_and_is_told_once(house: House) -> None:
    """The page would draw points twice, or miss what came between two polls."""

    async def run() -> list[dict[str, Any]]:
        states = []
        async with client(house) as made:
            states.append((await made.get("/page/state")).json())
            tables = {"items": Table(rows=40, dim=SETTINGS.dim, dtype="float32")}
            for version in (1, 2, 3):
                house.publish(version, tables=tables, metrics={"events": 10.0 * version, "window_hit_rate_all": 0.25})
                states.append((await made.get("/page/state?since=1")).json())
            states.append((await made.get("/page/state?since=3")).json())
        return states

    empty, first, second, third, nothing = asyncio.run(run())
    assert (empty["points"], empty["model_version"], empty["actions"]) == ([], None, [])
    assert empty["problem"] == "no snapshot has been published yet"
    assert [point["number"] for point in first["points"]] == []
    assert [(point["number"], point["version"]) for point in second["points"]] == [(2, "run/v2")]
    assert [point["number"] for point in third["points"]] == [2, 3]
    assert nothing["points"] == []
    point = third["points"][-1]
    assert (point["events"], point["window_hit_rate"], point["hit_rate"]) == (30, 0.25, None)
    assert (point["rows"], point["loaded_ms"]) == (40, NOW_MS)
    assert point["size_bytes"] == sum(file.bytes for file in house.store.manifest("run", 3).files)
    assert (third["actions"], third["clicks"]) == (list(ACTIONS), False)


def test_what_waits_is_told(house: House) -> None:
    """A worker or a learner that stands still looks like users who do nothing."""
    house.publish(1, sample_marks={"0": SampleMark(epoch=1, trigger_offset=1, n=0)})

    async def run() -> list[tuple[int | None, int | None]]:
        told = []
        async with client(house) as made:
            for unreachable in ({URLS[1]}, set(URLS)):
                house.workers.unreachable = unreachable
                state = (await made.get("/page/state")).json()
                told.append((state["waiting"], state["unlearned"]))
        return told

    # Of partitions 0 and 1, each at offset 1, the first is learned; of those whose worker is away nothing is known.
    assert asyncio.run(run()) == [(4, 2), (None, None)]


def test_an_old_server_holds_no_more_than_the_last_points(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that runs for months would hold, and send, millions."""
    monkeypatch.setattr(page_series, "MAX_POINTS", 2)
    series = PageSeries(house.follower, house.serving.freshness, lambda: NOW_MS)
    for version in (1, 2, 3):
        house.publish(version)
        series.look()
        series.look()
    assert [point.number for point in series.since(0)] == [2, 3]


def test_users_asked_for_lately_are_offered(house: House) -> None:
    """Whoever opens the page knows no user's id."""
    house.publish(1)

    async def run() -> list[str]:
        async with client(house) as made:
            for number in [*range(MAX_USERS + 3), 5]:
                await made.get("/recommend", params={"user_id": f"ü{number}"})
            await made.get("/recommend", params={"user_id": "x" * 300})
            await made.get("/recommend")
            await made.get("/recommend?" + "&".join(f"x{number}=1" for number in range(2_000)))
            await made.get("/users/other/sequence")
            return list((await made.get("/page/state")).json()["users"])

    users = asyncio.run(run())
    assert users[:3] == ["ü5", f"ü{MAX_USERS + 2}", f"ü{MAX_USERS + 1}"]
    assert len(users) == MAX_USERS


def test_a_click_is_an_action_at_the_streams_present(house: House) -> None:
    """On a replay of old events an action of today would be refused as one of the future."""
    house.publish(1)
    clicks = NoBroker()
    answer = ask(house, "POST", "/page/click", clicks, json=CLICK)
    assert (answer.status_code, answer.json()) == (200, {"partition": 3, "offset": 77})
    assert clicks.sent == [("u", ITEM_IDS[0], ACTIONS[0], EVENT_MS + 2_500)]


def test_nobody_acts_for_users_unless_it_is_said(house: House) -> None:
    """Everyone who reaches the server could write into every user's history."""
    house.publish(1)
    answer = ask(house, "POST", "/page/click", json=CLICK)
    assert answer.status_code == 403
    assert answer.json() == {"error": "no actions are sent from here: serve.page_clicks is not set"}
    assert not ServeSettings().page_clicks


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_no_other_site_makes_a_browser_click(house: House, content_type: str) -> None:
    """Browsers let any site send these types to a server on this machine without asking it first."""
    house.publish(1)
    clicks = NoBroker()
    headers = {"Content-Type": content_type} if content_type else {}
    answer = ask(house, "POST", "/page/click", clicks, content=json.dumps(CLICK), headers=headers)
    assert (answer.status_code, clicks.sent) == (422, [])


def test_what_cannot_be_sent_says_why(house: House) -> None:
    house.publish(1)
    wrong = ask(house, "POST", "/page/click", NoBroker(), json={**CLICK, "action": "buy"})
    assert (wrong.status_code, wrong.json()["error"]) == (
        422,
        f"action must be one of {', '.join(ACTIONS)}, got 'buy'",
    )
    assert ask(house, "POST", "/page/click", NoBroker(), json={**CLICK, "item_id": ""}).status_code == 422
    away = ask(house, "POST", "/page/click", NoBroker(SetupError("no answer from Kafka")), json=CLICK)
    assert (away.status_code, away.json()) == (503, {"error": "no answer from Kafka"})


def test_clicks_arrive_over_one_producer(tansu: Broker) -> None:
    """The page would say that all is well, and nothing would ever be learned of it."""
    kafka, topics = fresh_topics(tansu, num_partitions=1)
    clicks = Clicks(kafka, topics.events)

    async def run() -> list[int]:
        return [(await clicks.send("u", f"i{number}", "like", 7)).offset for number in range(2)]

    assert asyncio.run(run()) == [0, 1]
    clicks.close()
    events = [
        decode_event(record.key, record.value, record.timestamp, frozenset({"like"}))
        for record in read_topic(kafka, topics.events)
    ]
    assert [
        (event.user_id, event.item_id, event.action, event.ts_ms) for event in events if isinstance(event, Action)
    ] == [
        ("u", "i0", "like", 7),
        ("u", "i1", "like", 7),
    ]


def test_clicks_without_a_broker_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page would show a stack trace, or nothing."""

    def no_broker(*_: object) -> EventProducer:
        raise KafkaError("nobody there")

    monkeypatch.setattr("deploy.page_clicks.connected_producer", no_broker)
    nowhere = KafkaSettings(bootstrap_servers=(f"127.0.0.1:{free_port()}",), connect_seconds=0.3)
    clicks = Clicks(nowhere, "events")
    with pytest.raises(SetupError, match=r"no answer from Kafka at 127\.0\.0\.1"):
        asyncio.run(clicks.send("u", "i", "like", 7))
    clicks.close()


def test_the_page_is_open_and_what_it_shows_is_not(house: House) -> None:
    """With a token nobody could open the page to type it in, or everybody could read what users did."""
    house.publish(1)

    async def run() -> list[tuple[int, str]]:
        async with client(house, token="secret") as made:
            paths = ["/", *(f"/page/files/{name}" for name in FILES), "/page/state", "/page/files"]
            answers = [await made.get(path) for path in paths]
            answers.append(await made.get("/page/state", headers={"Authorization": "Bearer secret"}))
        return [(answer.status_code, answer.headers["content-type"].partition(";")[0]) for answer in answers]

    *files, shut, no_file, told = asyncio.run(run())
    assert files == [(200, "text/html"), *((200, media_type) for media_type in FILES.values())]
    assert (shut[0], no_file[0], told[0]) == (401, 401, 200)


def test_the_page_runs_nothing_but_its_own_script(house: House) -> None:
    """An item's title, which comes from outside, would run as a script in an operator's browser."""
    page = ask(house, "GET", "/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    script = (FOLDER / "page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|https?://", script)
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"https?://|\son\w+=|style=|<script(?! src=\"/page/files/)", html)
    assert set(re.findall(r'(?:src|href)="(/page/files/[^"]+)"', html)) == {f"/page/files/{name}" for name in FILES}


def test_every_element_that_the_script_asks_for_is_there() -> None:
    """A name that was changed in one of the two files stops the page at its first poll."""
    html, script = (FOLDER / "index.html").read_text(), (FOLDER / "page.js").read_text()
    asked = set(re.findall(r'\$\("([\w-]+)"\)', script)) | set(re.findall(r'plot\("([\w-]+)"', script))
    assert asked
    assert asked <= set(re.findall(r'id="([\w-]+)"', html))


def test_whoever_installs_the_page_gets_all_of_it() -> None:
    """An installed server would answer / with an error, or give uPlot on without its licence."""
    root = FOLDER.parents[1]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["deploy"]
    for name in ("index.html", "uPlot.LICENSE.txt", *FILES):
        assert (FOLDER / name).is_file()
        assert any(fnmatch(f"page/{name}", pattern) for pattern in patterns)
    assert "Permission is hereby granted" in (FOLDER / "uPlot.LICENSE.txt").read_text()


def test_the_pictures_of_the_readme_are_there_and_small() -> None:
    """The first thing that a reader sees would be a broken picture."""
    root = FOLDER.parents[1]
    shown = re.findall(r"\]\((deploy/page/pictures/[^)]+)\)", (root / "README.md").read_text())
    assert shown
    assert all(0 < (root / name).stat().st_size < 200_000 for name in shown)

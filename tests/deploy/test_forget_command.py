"""`headwater forget user|item`: what arrives, what it says, what it refuses."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.broker import free_port
from deploy.cli import app
from deploy.forget import what_remains
from storage.errors import SetupError
from storage.snapshot_settings import SnapshotSettings
from storage.store_settings import StoreSettings
from streams.events import Forget, decode_event
from streams.items import InvalidItemError, decode_item
from streams.plain_log import read_topic
from streams.topics import TopicSettings
from tests.brokers import Broker, fresh_topics

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `forget` in an empty folder; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)

    def command(*arguments: str) -> SimpleNamespace:
        code = app(["forget", *arguments], exit_on_error=False, result_action="return_value")
        return SimpleNamespace(code=code, out=capsys.readouterr().out)

    return command


def test_the_request_arrives_and_what_remains_is_said(run: Run, tansu: Broker, tmp_path: Path) -> None:
    """Who asked would believe that all is gone, or wait for something that nobody was asked for."""
    kafka, topics = fresh_topics(tansu)
    place = ("--kafka.bootstrap-servers", *kafka.bootstrap_servers, "--topics.prefix", topics.prefix)
    ended = run("user", "Ada [é]", *place, "--topics.samples-retention-days", "2.5", "--json", "out.json")
    assert ended.code == 0
    (record,) = list(read_topic(kafka, topics.events))
    event = decode_event(record.key, record.value, record.timestamp, frozenset())
    assert isinstance(event, Forget)
    assert event.user_id == "Ada [é]"
    assert f"the request stands at offset {record.offset} of {topics.events}-{record.partition}" in ended.out
    for word in ("topics.events_retention_days (30)", "samples_retention_days (2.5)", "checkpoints", "not unlearned"):
        assert word in ended.out
    figures = json.loads((tmp_path / "out.json").read_text())
    assert (figures["user_id"], figures["offset"]) == ("Ada [é]", record.offset)
    assert {"checkpoints", "snapshots", "weights", topics.events} <= figures["remains"].keys()


def test_an_item_is_marked_in_the_catalogue_and_what_remains_is_said(run: Run, tansu: Broker, tmp_path: Path) -> None:
    """It would be answered on, or come back with the next event."""
    kafka, topics = fresh_topics(tansu)
    place = ("--kafka.bootstrap-servers", *kafka.bootstrap_servers, "--topics.prefix", topics.prefix)
    ended = run("item", "Bandé [1]", *place, "--json", "out.json")
    assert ended.code == 0
    (record,) = list(read_topic(kafka, topics.items))
    item = decode_item(record.key, record.value)
    assert (item.item_id, item.available, item.forgotten, item.is_shown) == ("Bandé [1]", False, True, False)
    assert f"the request stands at offset {record.offset} of {topics.items}-{record.partition}" in ended.out
    for word in ("until it is described again", "what users did", "events_retention_days (30)", "not unlearned"):
        assert word in ended.out
    figures = json.loads((tmp_path / "out.json").read_text())
    assert (figures["item_id"], figures["offset"]) == ("Bandé [1]", record.offset)
    with pytest.raises(InvalidItemError, match="length <= 256"):
        run("item", "x" * 300, *place)


def test_topics_of_others_are_named() -> None:
    """`headwater ingress` would bring back what a consumer group of it reads again."""
    told = what_remains(TopicSettings(impressions="shown", actions="done"), StoreSettings(), SnapshotSettings(keep=1))
    assert told["shown, done"] == "all: these topics belong to others"
    assert "until at most 61 newer ones are there, pinned ones until they are released" in told["snapshots"]
    assert "shown, done" not in what_remains(TopicSettings(), StoreSettings(), SnapshotSettings())


def test_an_id_that_no_user_can_have_is_refused(run: Run, tansu: Broker) -> None:
    """A typing error would be acknowledged, and end as a dead letter."""
    kafka, topics = fresh_topics(tansu)
    place = ("--kafka.bootstrap-servers", *kafka.bootstrap_servers, "--topics.prefix", topics.prefix)
    with pytest.raises(ValueError, match="user_id must be 1 to 256 bytes of UTF-8, got 300"):
        run("user", "x" * 300, *place)


def test_without_a_broker_nothing_is_claimed(run: Run) -> None:
    """The request would be taken for done."""
    with pytest.raises(SetupError, match="no answer from Kafka"):
        run("user", "ada", "--kafka.bootstrap-servers", f"127.0.0.1:{free_port()}", "--kafka.connect-seconds", "1")

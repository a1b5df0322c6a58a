"""Workers under one name."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from storage.errors import SetupError
from storage.store_settings import StoreSettings
from streams.kafka_settings import KafkaSettings
from streams.static_member import StaticMember
from tests.brokers import ApacheKafka, Broker, fresh_topics, wait_until
from tests.streams.workers import WorkerThread


def test_the_second_worker_of_a_name_takes_the_place_and_the_first_says_so(broker: Broker, tmp_path: Path) -> None:
    """The two would take the place from each other for ever, at every heartbeat.

    The place is taken from another address, as a standby or a restart elsewhere does it.
    """
    if not isinstance(broker, ApacheKafka):
        pytest.skip("the embedded broker knows no static members")
    kafka, topics = fresh_topics(broker)
    first = WorkerThread(kafka, topics, StoreSettings(folder=tmp_path / "a"), instance_id="w1")
    first.__enter__()
    wait_until("first holds all", lambda: first.settled(0))
    with WorkerThread(kafka, topics, StoreSettings(folder=tmp_path / "b"), instance_id="w1") as second:
        first.join()
        assert isinstance(first.error, SetupError)
        assert "worker.instance_id 'w1' is another worker's, too" in str(first.error)
        wait_until("second holds all", lambda: second.settled(0))
        assert second.error is None


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> tuple[StaticMember, list[dict[str, Any]]]:
    """A member that has joined as `m1`, and what the group's description lists."""
    members: list[dict[str, Any]] = []
    monkeypatch.setattr(StaticMember, "_members", lambda _: members)
    made = StaticMember(KafkaSettings(), "w1")
    made.joined("m1")
    return made, members


def listed(member_id: str, instance_id: str | None) -> dict[str, Any]:
    return {"member_id": member_id, "group_instance_id": instance_id, "client_host": "/10.0.0.7"}


def test_only_a_place_that_another_has_is_lost(member: tuple[StaticMember, list[dict[str, Any]]]) -> None:
    """A worker that slept past its session, or whose generation is stale, just joins again."""
    static, members = member
    asyncio.run(static.check(""))
    members.extend([listed("m1", "w1"), listed("m2", "w2"), listed("m3", None)])
    asyncio.run(static.check(""))
    members.append(listed("m4", "w1"))
    asyncio.run(static.check("m1"))
    with pytest.raises(SetupError, match=r"worker.instance_id 'w1' .* \(a client at 10.0.0.7\)"):
        asyncio.run(static.check(""))


def test_before_it_has_joined_or_without_a_name_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart within the session finds its own predecessor listed."""

    def fail(_: StaticMember) -> list[dict[str, Any]]:
        pytest.fail("asked")

    monkeypatch.setattr(StaticMember, "_members", fail)
    asyncio.run(StaticMember(KafkaSettings(), "w1").check(""))
    nameless = StaticMember(KafkaSettings(), "")
    nameless.joined("m1")
    asyncio.run(nameless.check(""))

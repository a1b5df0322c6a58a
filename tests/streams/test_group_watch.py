"""Members of the group that go missing."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]  # aiokafka ships no types

from streams.group_watch import GroupWatch, MissingMembers
from streams.kafka_clients import client_options
from tests.brokers import ApacheKafka, Broker, fresh_topics


def test_a_member_that_goes_and_stays_away_is_missed(broker: Broker) -> None:
    """A standby that never sees it waits for ever; one that sees it where nobody has been takes over from nobody."""
    if not isinstance(broker, ApacheKafka):
        pytest.skip("the embedded broker goes on listing members that have left")
    kafka, topics = fresh_topics(broker)
    missed = asyncio.Event()

    async def run() -> None:
        watch = asyncio.create_task(GroupWatch(kafka, 0.5, missed.set).run())
        consumer = AIOKafkaConsumer(topics.events, group_id=kafka.group, **client_options(kafka))
        await consumer.start()
        for _ in range(100):
            if consumer.assignment():
                break
            await asyncio.sleep(0.1)
        assert consumer.assignment()
        await asyncio.sleep(2.5)
        assert not missed.is_set()
        await consumer.stop()
        await asyncio.wait_for(missed.wait(), 30)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    asyncio.run(run())


def test_a_restart_and_a_larger_group_are_no_loss() -> None:
    """A rolling restart would use the standby up."""
    missing = MissingMembers(seconds=6)
    seen = [(0, 2), (1, 1), (5, 1), (6, 2), (7, 3), (8, 2), (13, 2)]
    assert not any(missing.seen(at, members) for at, members in seen)
    assert missing.seen(14, 2)

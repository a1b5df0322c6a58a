"""Finding the worker that owns a user, and reading its answer."""

import asyncio
import math

import pytest
from kafka.partitioner import DefaultPartitioner  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy.sequences import SequenceClient, SequenceUnavailableError
from streams.partitioning import partition_of
from tests.deploy.workers import NUM_PARTITIONS, URLS, Workers


def client_of(workers: Workers, timeout_seconds: float = 5) -> SequenceClient:
    return SequenceClient(URLS, timeout_seconds=timeout_seconds, transport=workers)


class Cluster:
    """As much of a cluster as kafka-python's partitioner asks for."""

    def topics(self) -> set[str]:
        return {"events"}

    def partitions_for_topic(self, _: str) -> set[int]:
        return set(range(7))

    available_partitions_for_topic = partitions_for_topic


def test_users_are_found_in_the_partition_where_producers_put_them() -> None:
    """Another hash would ask a worker that does not own the user, for ever."""
    partitioner = DefaultPartitioner()
    for number in range(500):
        key = f"usér-{number}".encode()
        chosen = partitioner.partition("events", key, key, b"", b"", Cluster())
        assert partition_of(key.decode(), 7) == chosen


def test_the_columns_become_the_models_input() -> None:
    async def read() -> None:
        client = client_of(Workers())
        answer = await client.read("u", last=10)
        sequence = answer.to_sequence()
        assert (answer.applied, answer.epoch, answer.features) == (77, 1, {"age": 30})
        assert sequence.item_ids == ["a", "b"]
        assert sequence.ts_ms.tolist() == [10, 20]
        assert sequence.actions.tolist() == [0, 3]
        assert math.isnan(sequence.values[0])
        assert sequence.values[1] == 4.5
        assert sequence.new.tolist() == sequence.order.tolist() == [0, 0]
        assert sequence.features == [(5, 0, "age", 30)]
        await client.aclose()

    asyncio.run(read())


def test_the_owner_is_looked_for_once_and_then_remembered() -> None:
    """Asking every worker for every request would double the traffic."""

    async def read() -> None:
        workers = Workers()
        client = client_of(workers)
        for number in range(20):
            answer = await client.read(f"u{number}", last=10)
            assert answer.partition == partition_of(f"u{number}", NUM_PARTITIONS)
        assert workers.asked == {"/state": 2, "/sequence": 20}
        await client.aclose()

    asyncio.run(read())


def test_a_421_leads_to_the_right_worker() -> None:
    async def read() -> None:
        workers = Workers()
        client = client_of(workers)
        await client.read("u", last=10)
        workers.owners = {number: URLS[url == URLS[0]] for number, url in workers.owners.items()}
        answers = await asyncio.gather(*(client.read(f"u{number}", last=10) for number in range(30)))
        assert [answer.user_id for answer in answers] == [f"u{number}" for number in range(30)]
        assert workers.asked["/state"] == 4
        await client.aclose()

    asyncio.run(read())


def test_an_owner_behind_a_shared_address_is_reached_through_a_worker() -> None:
    """Workers behind one address, each with a part of the partitions, answer for those of one worker alone."""

    async def read() -> None:
        workers = Workers()
        workers.forwards_to = "http://worker-c:3"
        workers.owners = dict.fromkeys((0, 1), URLS[0])
        client = client_of(workers)
        for number in range(20):
            assert (await client.read(f"u{number}", last=10)).user_id == f"u{number}"
        await client.aclose()

    asyncio.run(read())


def test_an_owner_that_is_told_is_asked_the_next_time() -> None:
    """Each request of a partition that has moved would go through its former owner for ever."""

    async def read() -> None:
        workers = Workers()
        client = client_of(workers)
        await client.read("u", last=10)
        workers.owners = {number: URLS[url == URLS[0]] for number, url in workers.owners.items()}
        workers.forwards_to = workers.owners[partition_of("u", NUM_PARTITIONS)]
        await client.read("u", last=10)
        assert workers.num_forwarded == 1
        await client.read("u", last=10)
        assert workers.num_forwarded == 1
        await client.aclose()

    asyncio.run(read())


def test_a_dead_workers_partitions_are_found_at_its_peer() -> None:
    async def read() -> None:
        workers = Workers()
        client = client_of(workers)
        await client.read("u", last=10)
        workers.owners = dict.fromkeys(range(NUM_PARTITIONS), URLS[0])
        workers.unreachable = {URLS[1]}
        for number in range(20):
            assert (await client.read(f"u{number}", last=10)).user_id == f"u{number}"
        await client.aclose()

    asyncio.run(read())


def test_a_partition_that_moves_is_waited_for() -> None:
    """During a rebalance nobody owns a partition for a moment; the request should not fail for that."""

    async def read() -> None:
        workers = Workers()
        owners, workers.owners = workers.owners, {}
        client = client_of(workers)
        reading = asyncio.create_task(client.read("u", last=10))
        await workers.asked_twice.wait()
        workers.owners = owners
        assert (await reading).user_id == "u"
        await client.aclose()

    asyncio.run(read())


def test_an_unreachable_worker_is_named() -> None:
    async def read() -> None:
        workers = Workers()
        workers.unreachable = set(URLS)
        client = client_of(workers, timeout_seconds=0.3)
        with pytest.raises(SequenceUnavailableError, match=r"http://worker-a:1 \(connection refused\)"):
            await client.read("u", last=10)
        await client.aclose()

    asyncio.run(read())


def test_an_answer_of_another_shape_is_no_sequence() -> None:
    """Something else may listen on the worker's port."""

    async def read() -> None:
        workers = Workers()
        workers.body = {"item_ids": "none"}
        client = client_of(workers)
        with pytest.raises(SequenceUnavailableError, match="did not answer as a worker does"):
            await client.read("u", last=10)
        await client.aclose()

    asyncio.run(read())

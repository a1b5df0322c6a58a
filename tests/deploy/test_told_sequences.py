"""News of a sequence against the whole of it, from real stores."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest

from deploy.sequence_columns import SequenceColumns
from deploy.sequences import SequenceClient, SequenceUnavailableError
from deploy.told_sequences import ENTRY_BYTES, ToldSequences
from storage.changes import Acted, Change, Exposed, Forgot, Updated
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.views import Views
from tests.deploy.workers import URLS, Workers, columns

USERS = ("ada", "bob")
MANY_BYTES = 1 << 20


class Log:
    """Random records of one partition, among them what changes earlier events."""

    def __init__(self, seed: int) -> None:
        self._draws = np.random.default_rng(seed)
        self.changes: list[Change] = []
        self._now = 1_000

    def append(self) -> None:
        draws, offset, user_id = self._draws, len(self.changes), USERS[int(self._draws.integers(2))]
        self._now += int(draws.choice([0, 5, 500]))
        ts_ms, item_id = self._now - int(draws.choice([0, 0, 300])), f"i{draws.integers(9)}"
        kind = draws.choice(["shown", "acted", "told", "forgotten"], p=[0.4, 0.47, 0.1, 0.03])
        if kind == "shown":
            items = [f"i{number}" for number in draws.integers(9, size=draws.integers(1, 4))]
            self.changes.append(Exposed(offset, user_id, ts_ms, 0, items, request_id=f"r{offset}"))
        elif kind == "acted":
            # Some belong to an exposure by its request, and some come before that does.
            request = [None, f"r{max(0, offset - 2)}", f"r{offset + 1}"][int(draws.integers(3))]
            value = [None, 4.5][int(draws.integers(2))]
            self.changes.append(Acted(offset, user_id, ts_ms, 0, item_id, int(draws.integers(2)), value, request))
        elif kind == "told":
            self.changes.append(Updated(offset, user_id, ts_ms, {"plan": int(draws.integers(3))}))
        else:
            self.changes.append(Forgot(offset, user_id))


class StoreWorker(httpx.AsyncBaseTransport):
    """A worker in front of a store that can be replaced by another worker's."""

    def __init__(self) -> None:
        self.store: SequenceStore | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        partitions = SimpleNamespace(
            topic="events", stores={0: self.store}, description=SimpleNamespace(num_partitions=1)
        )
        views = Views(cast("Any", None), cast("Any", partitions), cast("Any", None))
        if request.url.path == "/state":
            return httpx.Response(200, json={"num_partitions": 1, "partitions": {"0": {"applied": 0}}})
        query = request.url.params
        names = ("last", "until", "since", "digest")
        status, answer = views.sequence(query["user_id"], *(query.get(name) for name in names))
        return httpx.Response(status, json=answer)


def store_factory(folder: Path, topic_id: str = "first") -> SequenceStore:
    settings = StoreSettings(folder=folder, actions=("click", "rate"), cap=24, sample_exposures=10)
    return SequenceStore.open(settings, topic="events", partition=0, num_partitions=1, topic_id=topic_id)


def apply_some(store: SequenceStore, log: Log, most: int) -> None:
    start = store.applied + 1
    changes = log.changes[start : start + most]
    if changes:
        store.apply(start, start + len(changes) - 1, changes)
        store.acknowledge([key for key, _ in store.outbox(100)])


def told(read: SequenceColumns) -> dict[str, Any]:
    names = ("item_ids", "ts_ms", "actions", "values", "groups", "features", "feature_segments", "epoch", "applied")
    return {name: getattr(read, name) for name in names}


@pytest.mark.parametrize("seed", range(3))
def test_news_give_what_a_whole_read_gives_whoever_owns_the_partition(tmp_path: Path, seed: int) -> None:
    """An action on an earlier event, a trim, an owner that lags or a user who is forgotten would be missed."""
    log, worker = Log(seed), StoreWorker()
    stores = [store_factory(tmp_path / name) for name in ("a", "b")]
    draws = np.random.default_rng(seed)

    async def run() -> tuple[int, int]:
        client = SequenceClient(URLS[:1], timeout_seconds=5, held_bytes=MANY_BYTES, transport=worker)
        plain = SequenceClient(URLS[:1], timeout_seconds=5, transport=worker)
        num_read = 0
        for number in range(120):
            log.append()
            apply_some(stores[0], log, int(draws.integers(3)))
            apply_some(stores[1], log, int(draws.integers(3)))
            worker.store = stores[number // 9 % 2]
            for user_id in USERS:
                read, whole = await client.read(user_id), await plain.read(user_id)
                if read.applied >= 0:
                    assert told(read) == told(whole)
                    num_read += 1
        return client.num_news, num_read

    num_news, num_read = asyncio.run(run())
    for store in stores:
        store.close()
    assert num_news > num_read // 2


def test_a_log_that_was_made_anew_is_told_as_a_whole_read_tells_it(tmp_path: Path) -> None:
    """Offsets of the former log would be taken for those of the new one, in the same epoch or in another."""
    worker, logs = StoreWorker(), [Log(0), Log(1), Log(2)]
    for log in logs:
        for _ in range(30):
            log.append()

    async def run() -> None:
        client = SequenceClient(URLS[:1], timeout_seconds=5, held_bytes=MANY_BYTES, transport=worker)
        plain = SequenceClient(URLS[:1], timeout_seconds=5, transport=worker)
        for folder, topic_id, log in (("a", "first", logs[0]), ("a", "second", logs[1]), ("b", "other", logs[2])):
            worker.store = store_factory(tmp_path / folder, topic_id)
            for most in (10, 1, 15):
                apply_some(worker.store, log, most)
                for user_id in USERS:
                    assert told(await client.read(user_id)) == told(await plain.read(user_id))
            worker.store.close()

    asyncio.run(run())


def test_what_is_held_stays_under_its_limit_and_who_was_asked_longest_ago_goes() -> None:
    """The server would grow with the number of users."""
    one = SequenceColumns(**columns("u0", feature_segments=[]))
    size = ToldSequences(MANY_BYTES)
    size.put(one)
    sequences = ToldSequences(3 * size.num_bytes)
    for number in range(3):
        sequences.put(SequenceColumns(**columns(f"u{number}", feature_segments=[])))
    assert sequences.num_bytes == sequences.limit_bytes
    assert sequences.get("u0") == one
    sequences.put(SequenceColumns(**columns("u3", feature_segments=[])))
    assert [sequences.get(f"u{number}") is not None for number in range(4)] == [True, False, True, True]
    sequences.put(SequenceColumns(**columns("u3", item_ids=["i" * 9_999] * 2)))
    assert sequences.get("u3") is None
    assert (len(sequences), sequences.num_bytes) == (2, 2 * size.num_bytes)
    assert size.num_bytes > ENTRY_BYTES
    with pytest.raises(ValueError, match="limit_bytes must be >= 0, got -1"):
        ToldSequences(-1)


def test_news_of_more_than_is_held_are_no_answer() -> None:
    """A worker that answers for somebody else would be believed."""

    async def read() -> None:
        workers = Workers()
        workers.body = {"digest": "d"}
        client = SequenceClient(URLS, timeout_seconds=5, held_bytes=MANY_BYTES, transport=workers)
        await client.read("u")
        workers.body = {"digest": "e", "kept": 3}
        with pytest.raises(SequenceUnavailableError, match="kept must be at most the 2 events that were told, got 3"):
            await client.read("u")
        await client.aclose()

    asyncio.run(read())

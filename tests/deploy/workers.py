"""Workers' endpoints without workers, for the tests of those who ask them."""

import asyncio
from collections import Counter
from typing import Any

import httpx

from streams.ownership import OWNER
from streams.partitioning import partition_of

NUM_PARTITIONS = 4
URLS = ("http://worker-a:1", "http://worker-b:2")


class Workers(httpx.AsyncBaseTransport):
    """Two workers that own partitions as `owners` says."""

    def __init__(self) -> None:
        self.owners = {0: URLS[0], 1: URLS[0], 2: URLS[1], 3: URLS[1]}
        self.unreachable: set[str] = set()
        self.forwards_to = ""
        self.num_forwarded = 0
        self.body: dict[str, Any] = {}
        self.asked: Counter[str] = Counter()
        self.asked_twice = asyncio.Event()
        self.asked_sequence = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = f"http://{request.url.host}:{request.url.port}"
        self.asked[request.url.path] += 1
        if self.asked["/state"] == 2 * len(URLS):
            self.asked_twice.set()
        await asyncio.sleep(0)
        if url in self.unreachable:
            raise httpx.ConnectError("connection refused")
        if request.url.path == "/state":
            mine = {str(number): {"applied": 1, "lag": 2} for number, owner in self.owners.items() if owner == url}
            return httpx.Response(200, json={"num_partitions": NUM_PARTITIONS, "partitions": mine})
        self.asked_sequence.set()
        user_id = request.url.params["user_id"]
        partition = partition_of(user_id, NUM_PARTITIONS)
        forwarded = {}
        if self.owners.get(partition) != url:
            if not self.forwards_to:
                return httpx.Response(421, json={"error": "not mine"})
            self.num_forwarded += 1
            forwarded = {OWNER: self.forwards_to}
        return httpx.Response(200, json=columns(user_id, partition=partition) | self.body, headers=forwarded)


def columns(user_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "partition": 0,
        "epoch": 1,
        "applied": 77,
        "item_ids": ["a", "b"],
        "ts_ms": [10, 20],
        "actions": [0, 3],
        "values": [None, 4.5],
        "groups": [5, 6],
        "features": {"age": 30},
        "feature_segments": [[5, 0, "age", 30]],
        "action_names": ["like", "dislike"],
    } | changes

"""Stream workers for tests: in a thread of the test's process, or as a process of their own that can be killed."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx

from deploy.broker import free_port
from storage.store_settings import StoreSettings
from streams.http_access import HttpAccess
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings
from streams.worker import Worker, WorkerSettings
from tests.brokers import wait_until

# Without TLS it is not used, but httpx would make one for each request, in 30 ms.
_TLS = ssl.create_default_context()


class Views:
    """Asks a worker's HTTP views."""

    def __init__(self, url: str, access: HttpAccess = HttpAccess()) -> None:  # noqa: B008 - frozen
        self.url = url
        self.access = access
        self._trust = access.trust() if access.certificate else _TLS

    def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> httpx.Response:
        """Answer to one request."""
        sent = self.access.headers | (headers or {})
        return httpx.get(f"{self.url}{path}", params=query, headers=sent, timeout=10, verify=self._trust)

    def state(self) -> dict[str, Any]:
        """The worker's state; empty while it does not answer."""
        try:
            answer: dict[str, Any] = self.get("/state").json()
        except (httpx.HTTPError, json.JSONDecodeError):
            return {}
        return answer

    def settled(self, num_records: int, num_partitions: int = 4) -> bool:
        """Whether all partitions are held, so many records are applied, and the outboxes are empty."""
        partitions = self.state().get("partitions", {})
        applied = sum(each["applied"] + 1 for each in partitions.values())
        outbox = sum(each["outbox"] for each in partitions.values())
        return len(partitions) == num_partitions and applied == num_records and not outbox


class WorkerThread(Views):
    """A worker in a thread; leaving the context stops it and raises what ended it."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings, store: StoreSettings, **settings: Any) -> None:
        self.settings = WorkerSettings(web_port=free_port(), **settings)
        super().__init__(f"{self.settings.scheme}://127.0.0.1:{self.settings.web_port}", self.settings.access)
        self.worker: Worker | None = None
        self.error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, args=(kafka, topics, store), daemon=True)

    def __enter__(self) -> "WorkerThread":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it and wait."""
        wait_until("worker made", lambda: self.worker is not None or self.error is not None)
        self.call(lambda worker: worker.ending.request())
        self.join()
        if self.error is not None:
            raise self.error

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join(30)
        assert not self._thread.is_alive()

    def call(self, act: Callable[[Worker], object]) -> None:
        """Have the worker's loop do something; nothing where it has ended."""
        if self._loop is not None and self._thread.is_alive() and self.worker is not None:
            self._loop.call_soon_threadsafe(act, self.worker)

    def _run(self, *settings: Any) -> None:
        try:
            asyncio.run(self._work(*settings))
        except BaseException as error:
            self.error = error

    async def _work(self, kafka: KafkaSettings, topics: TopicSettings, store: StoreSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self.worker = Worker(kafka, topics, store, self.settings)
        await self.worker.run()


class WorkerProcess(Views):
    """A worker as a process; `faults` are what the module that it runs (`child`) is to do wrong."""

    child = "tests.streams.worker_child"

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: TopicSettings,
        store: StoreSettings,
        *,
        faults: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.port = settings.setdefault("web_port", free_port())
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.log = store.folder.with_name(f"worker-{self.port}.log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        arguments = {
            "kafka": asdict(replace(kafka, connect_seconds=3.0)),
            "topics": asdict(topics),
            "store": {**asdict(store), "folder": str(store.folder)},
            "worker": settings,
            "faults": faults or {},
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.child, json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env={**os.environ},
            )

    def kill(self) -> None:
        """End it at once, without a chance to do anything."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)

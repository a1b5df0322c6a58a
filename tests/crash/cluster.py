"""Several workers of one group, as processes that can be killed, frozen and started again."""

import contextlib
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.broker import free_port
from storage.store_settings import StoreSettings
from streams.faults import EXIT_FAULT
from streams.topics import admin_client
from tests.brokers import Broker, fresh_topics, wait_until
from tests.crash.load import ACTIONS
from tests.crash.verdict import Found, SentSamples, compare
from tests.streams.workers import WorkerProcess

NUM_PARTITIONS = 6
"""With 4 Faust's assignor, which fills workers up to the rounded-up share, leaves the third of three without any."""
SETTLED_SECONDS = 120.0
QUIET_SECONDS = 1.0
SMALLEST: Any = {"cap": 64, "sample_every": 3, "sample_exposures": 20, "session_gap_seconds": 1.5}
"""Settings of stores that make trims, timers and ticks frequent."""
OF_OLD_DATABASES = ("ShippedRestore.run:3", "ShippedRestore.run:4")
"""Points that are reached where there is a database that a shipped checkpoint is ahead of."""
EXPLAINED = 2
"""Exit status of a worker that says what is wrong and what to do."""


class FaultyWorker(WorkerProcess):
    """A worker process with the faults of `faulty_child`."""

    child = "tests.crash.faulty_child"

    def partitions(self) -> dict[int, dict[str, Any]]:
        """State of each partition that it holds."""
        return {int(number): state for number, state in self.state().get("partitions", {}).items()}


class Cluster:
    """Workers by name; leaving the context kills those that are left.

    `shared` workers use one state folder, as those of one machine may; others have one each. `like` another cluster:
    a group of its own that reads the same topics.
    """

    def __init__(
        self,
        broker: Broker,
        folder: Path,
        *,
        shared: bool = True,
        static: bool = True,
        like: "Cluster | None" = None,
        **worker: Any,
    ) -> None:
        if like is None:
            self.kafka, self.topics = fresh_topics(broker, num_partitions=NUM_PARTITIONS)
        else:
            self.kafka, self.topics = replace(like.kafka, group=f"{like.kafka.group}-{folder.name}"), like.topics
        self.store = StoreSettings(folder=folder / "state", actions=ACTIONS, **SMALLEST)
        self.shared = shared
        self.workers: dict[str, FaultyWorker] = {}
        self.frozen: set[str] = set()
        self.exits: list[tuple[str, int]] = []
        """Name and status of every worker that ended, in order."""
        self._static = static
        self._ports: dict[str, int] = {}
        self._settings = {"checkpoint_seconds": 0.7, "watchdog_seconds": 20.0, **worker}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.workers):
            self.end(name, signal.SIGKILL)

    def folder(self, name: str) -> Path:
        """State folder of a worker."""
        return self.store.folder if self.shared else self.store.folder / name

    def start(self, *names: str, **faults: Any) -> None:
        """Start workers; static members come back under their name and port."""
        for name in names:
            port = self._ports.setdefault(name, free_port())
            store = replace(self.store, folder=self.folder(name))
            settings = {**self._settings, "web_port": port, "instance_id": name if self._static else ""}
            self.workers[name] = FaultyWorker(self.kafka, self.topics, store, faults=faults, **settings)

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """Signal a worker, let go of it, and return its exit status."""
        worker = self.workers.pop(name)
        self.frozen.discard(name)
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(number)
        status = worker.process.wait(30)
        self.exits.append((name, status))
        return status

    def ended(self, name: str, seconds: float = 60.0) -> int:
        """Wait until a worker has ended by itself, let go of it, and return its exit status."""
        worker = self.workers[name]
        wait_until(f"{name} has ended", lambda: worker.process.poll() is not None, seconds)
        del self.workers[name]
        self.exits.append((name, worker.process.returncode))
        return worker.process.returncode

    def log(self, name: str, size: int = 4_000) -> str:
        """The end of what a worker said."""
        path = self.folder(name).with_name(f"worker-{self._ports[name]}.log")
        return path.read_text()[-size:]

    def freeze(self, name: str) -> None:
        """Stop a worker's every thread."""
        self.workers[name].process.send_signal(signal.SIGSTOP)
        self.frozen.add(name)

    def thaw(self, name: str) -> None:
        """Let it go on as if nothing had been."""
        self.workers[name].process.send_signal(signal.SIGCONT)
        self.frozen.discard(name)

    @property
    def ships(self) -> bool:
        """Whether workers ship their checkpoints."""
        return bool(self._settings.get("checkpoint_url"))

    @property
    def may_wipe(self) -> bool:
        """Whether no other member can open a dead one's databases at this moment."""
        return self._static or not self.shared

    def wipe(self, name: str, *, checkpoints: bool = False) -> None:
        """Delete the databases that no process holds; with the checkpoints, if so said, as a new machine would."""
        if checkpoints:
            assert not self.shared, "others hold databases in it"
            shutil.rmtree(self.folder(name), ignore_errors=True)
        assert self.may_wipe, "another member may open one of them now"
        held = self.partitions() if self.shared else {}
        for database in self.folder(name).glob("p[0-9]*"):
            if int(database.name.partition(".")[0][1:]) not in held:
                shutil.rmtree(database)

    def prepare(self, name: str, point: str) -> None:
        """Bring a dead worker's disk into the condition in which its next start leads to the point."""
        if not self.may_wipe:
            return
        if ":Checkpoints.restore:" in point:
            self.wipe(name)
        elif not self.shared and (":CheckpointShipping.fetch:" in point or ":ShippedRestore.run:" in point):
            self.wipe(name, checkpoints=True)
            if point.endswith(OF_OLD_DATABASES) and self._kept(name).exists():
                shutil.copytree(self._kept(name), self.folder(name))

    def keep(self, name: str) -> None:
        """Keep a copy of a dead worker's databases, for `prepare` to bring back as old ones."""
        shutil.rmtree(self._kept(name), ignore_errors=True)
        shutil.copytree(self.folder(name), self._kept(name), ignore=shutil.ignore_patterns("checkpoints", "faust"))

    def _kept(self, name: str) -> Path:
        return self.store.folder.with_name(f"kept-{name}")

    def tend(self) -> None:
        """Start workers again that ended with the status which asks for that; fail where one ended otherwise."""
        for name, worker in list(self.workers.items()):
            if worker.process.poll() is not None:
                status, said = self.ended(name), self.log(name)
                # One that shares its folder with a frozen worker gives up after a while.
                restarts = status == EXIT_FAULT or (status == EXPLAINED and "is in use by another process" in said)
                assert restarts, f"{name} ended with status {status}: {said}"
                self.start(name)

    def partitions(self) -> dict[int, dict[str, Any]]:
        """State of each partition that is held now, as its worker says."""
        asked = [worker for name, worker in self.workers.items() if name not in self.frozen]
        return {number: state for worker in asked for number, state in worker.partitions().items()}

    def num_applied(self) -> int:
        """Records applied in all."""
        return sum(state["applied"] + 1 for state in self.partitions().values())

    def wait_applied(self, more: int = 300, seconds: float = SETTLED_SECONDS) -> None:
        """Wait until all partitions are held and so many further records are applied."""
        self.wait_held(seconds)
        before = self.num_applied()
        wait_until(
            f"{more} more are applied", lambda: self._holds_all() and self.num_applied() >= before + more, seconds
        )

    def wait_held(self, seconds: float = SETTLED_SECONDS) -> None:
        """Wait until all partitions are held."""
        wait_until("all partitions are held", self._holds_all, seconds)

    def wait_stable(self) -> None:
        """Wait until all partitions are held and none is about to change hands."""

        def is_stable() -> bool:
            with admin_client(self.kafka) as admin:
                state = admin.describe_groups([self.kafka.group])[self.kafka.group]["group_state"]
            return state == "Stable" and self._holds_all()

        wait_until("the group is stable", is_stable, SETTLED_SECONDS)

    def wait_shipped(self) -> None:
        """Wait until there is a shipped checkpoint of each partition that is newer than now."""
        url, now = Path(str(self._settings["checkpoint_url"])), time.time()

        def are_new() -> bool:
            newest = [
                max((path.stat().st_mtime for path in url.glob(f"*/p{number}/**/*.json")), default=0.0)
                for number in range(NUM_PARTITIONS)
            ]
            return all(each > now for each in newest)

        wait_until("new checkpoints are shipped", are_new, SETTLED_SECONDS)

    def wait_shared_by(self, num_workers: int) -> None:
        """Wait until so many workers hold all partitions between them, none of them without one."""

        def is_shared() -> bool:
            self.tend()
            held = [len(worker.partitions()) for name, worker in self.workers.items() if name not in self.frozen]
            return sum(held) == NUM_PARTITIONS and len(held) == num_workers and all(held)

        wait_until(f"{num_workers} share the partitions", is_shared, SETTLED_SECONDS)

    def assert_exact(self, *, replayed: bool = True) -> Found:
        """Wait until everything is applied and sent; fail unless it is what the log leads to.

        `replayed`: a worker without state that reads the same log undisturbed must send the same samples, too.
        """
        assert not self.frozen
        found, sent = compare(self.kafka, self.topics, self.store, self.urls, self.wait_quiet)
        assert found.findings == dict.fromkeys(found.findings, 0), f"{found}, exits: {self.exits}"
        if replayed:
            self._assert_replayed_alike(sent)
        return found

    @property
    def urls(self) -> tuple[str, ...]:
        """Views of the workers that run."""
        return tuple(worker.url for worker in self.workers.values())

    def _assert_replayed_alike(self, sent: SentSamples) -> None:
        # A group of its own, with no state, sends every sample again into the same topic.
        alone = replace(self.kafka, group=f"{self.kafka.group}-alone")
        store = replace(self.store, folder=self.store.folder.with_name("alone"))
        worker = FaultyWorker(alone, self.topics, store)
        try:
            found, both = compare(alone, self.topics, store, (worker.url,), partial(_wait_quiet, worker.partitions))
        finally:
            worker.end()
        shutil.rmtree(store.folder)
        assert found.findings == dict.fromkeys(found.findings, 0), found
        assert both.bodies.keys() == sent.bodies.keys()
        assert both.repeated >= len(sent.bodies)

    def wait_quiet(self) -> None:
        """Wait until everything is applied and sent."""
        _wait_quiet(self.partitions, self.tend)

    def _holds_all(self) -> bool:
        self.tend()
        return len(self.partitions()) == NUM_PARTITIONS


def _wait_quiet(partitions: Callable[[], dict[int, dict[str, Any]]], tend: Callable[[], None] = lambda: None) -> None:
    """Wait until nothing waits in the outboxes, no timer runs, and no partition moves for a while."""
    before: dict[int, int] = {}
    since = time.monotonic()

    def is_quiet() -> bool:
        nonlocal before, since
        tend()
        found = partitions()
        applied = {number: state["applied"] for number, state in found.items()}
        waiting = any(state["outbox"] or state.get("timers") for state in found.values())
        if waiting or len(found) < NUM_PARTITIONS or applied != before:
            before, since = applied, time.monotonic()
        return time.monotonic() - since > QUIET_SECONDS

    wait_until("all is applied and sent", is_quiet, SETTLED_SECONDS)

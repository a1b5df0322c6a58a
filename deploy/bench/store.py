"""`headwater bench store`: what a store's work costs by length of the sequences, what it writes, how fast it reads.

No broker: records are made here, decoded and applied as the worker does, in its chunks; due samples are built,
encoded and acknowledged as its outbox sender does.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.bench.event_log import ACTIONS, FIRST_MS, STEP_MS
from deploy.bench.processes import written_bytes
from deploy.bench.streams import CAP, CONTEXT, own_store
from storage.changes import SampleRef
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from streams.decoding import ChunkDecoder
from streams.garbage import collect_rarely
from streams.sampling import build_samples

OUTBOX_ITEMS = 128
"""Items of the outbox taken at once: as many samples as fit a batch of the sender."""
CHUNK_RECORDS = 8_000
"""Records in a chunk: as many of these as a fetch brings of a partition."""
READ = 512
"""Events in a read."""
READERS = 2
"""Processes that read at the same time, on as many cores."""
NUM_ITEMS = 20_000

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MadeRecord:
    """What the decoder takes of a Kafka record."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StorePlan:
    """What is measured."""

    users: int = 1_000
    """Users whose events come in while the cost is measured."""
    events: int = 200_000
    """Events that come in meanwhile."""
    readable_users: int = 100_000
    """Users in the store that is read from."""
    full_users: int = 5_000
    """Of these, those who hold as many events as a read gives; only they are read."""
    reads: int = 20_000
    """Reads of each process."""
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("users", "events", "readable_users", "full_users", "reads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.full_users > self.readable_users:
            raise ValueError(f"full_users must be <= readable_users {self.readable_users}, got {self.full_users}")


class FilledStore:
    """A store of one partition and the log that feeds it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.settings = own_store("whole", folder)
        self.store = SequenceStore.open(self.settings, topic="events", partition=0, num_partitions=1, topic_id="bench")
        self._decoder = ChunkDecoder(ACTIONS)
        self._drawn = np.random.default_rng(seed)

    def shuffled(self, lengths: Numbers) -> Numbers:
        """User numbers, each as often as `lengths` says, in random order."""
        users = np.repeat(np.arange(len(lengths)), lengths)
        self._drawn.shuffle(users)
        return users

    def drawn(self, users: int, events: int) -> Numbers:
        """User numbers, all equally likely."""
        return self._drawn.integers(0, users, events)

    def add(self, users: Numbers, *, samples: bool) -> tuple[float, float]:
        """Take in one event of each of these users; returns seconds and CPU seconds without the making of the records.

        Where `samples` is false, due samples are acknowledged and not built.
        """
        seconds = cpu = 0.0
        for records in self._chunks(users):
            started, cpu_started = time.perf_counter(), time.process_time()
            self.store.apply(records[0].offset, records[-1].offset, *self._decoder.decode(records))
            self._send(samples)
            seconds += time.perf_counter() - started
            cpu += time.process_time() - cpu_started
        return seconds, cpu

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def _chunks(self, users: Numbers) -> Iterator[list[MadeRecord]]:
        for first in range(0, len(users), CHUNK_RECORDS):
            chunk = users[first : first + CHUNK_RECORDS].tolist()
            items = self._drawn.integers(0, NUM_ITEMS, len(chunk)).tolist()
            start = self.store.applied + 1
            yield [
                _record(start + place, user, item) for place, (user, item) in enumerate(zip(chunk, items, strict=True))
            ]

    def _send(self, build: bool) -> None:
        while items := self.store.outbox(OUTBOX_ITEMS):
            by_user: dict[str, list[tuple[OutboxKey, SampleRef]]] = {}
            for key, item in items:
                assert isinstance(item, SampleRef)
                by_user.setdefault(item.user_id, []).append((key, item))
            for due in by_user.values() if build else ():
                build_samples(self.store, due, CONTEXT)
            self.store.acknowledge([key for key, _ in items])


def run_store_bench(plan: StorePlan, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Make all measurements in a folder of their own under `folder`."""
    collect_rarely()
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="store-", dir=folder))
    try:
        say("sequences that are short")
        short = _cost(plan, place / "short", (CONTEXT, 2 * CONTEXT))
        say("sequences at their cap")
        full = _cost(plan, place / "full", (CAP, 2 * CAP))
        say(f"reads among {plan.readable_users:,} users")
        reads = _reads(plan, place / "reads")
    finally:
        shutil.rmtree(place)
    return {
        "short": short,
        "at_cap": full,
        "at_cap_by_short": round(full["events_per_second"] / short["events_per_second"], 3),
        "reads": reads,
    }


def _cost(plan: StorePlan, folder: Path, between: tuple[int, int]) -> dict[str, Any]:
    """Rates while each user has a number of rows that is drawn from an interval; of the cap, what trimming leaves."""
    filled = FilledStore(folder, plan.seed)
    before = written_bytes()
    lengths = np.random.default_rng(plan.seed).integers(*between, plan.users)
    filled.add(filled.shuffled(lengths), samples=False)
    applied, applied_cpu = filled.add(filled.drawn(plan.users, plan.events), samples=False)
    filled.store.prepare_samples(CONTEXT)
    whole, whole_cpu = filled.add(filled.drawn(plan.users, plan.events), samples=True)
    filled.close()
    return {
        "rows_of_a_user": list(between),
        "events_per_second": round(plan.events / whole, 1),
        "events_per_cpu_second": round(plan.events / whole_cpu, 1),
        "events_per_second_without_samples": round(plan.events / applied, 1),
        "events_per_cpu_second_without_samples": round(plan.events / applied_cpu, 1),
        "written_bytes_per_event": round((written_bytes() - before) / (int(lengths.sum()) + 2 * plan.events), 1),
    }


def _reads(plan: StorePlan, folder: Path) -> dict[str, Any]:
    """What one process reads, and what several do at the same time, each of a store of its own, as workers are."""
    folders = [folder / str(number) for number in range(READERS)]
    with ProcessPoolExecutor(READERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(_fill_for_reads, [plan] * READERS, folders))
        (alone,) = pool.map(_read_all, [plan], folders[:1])
        together = list(pool.map(_read_all, [plan] * READERS, folders))
    p50, p99 = np.quantile(alone.seconds, (0.5, 0.99))
    span = max(each.ended for each in together) - min(each.started for each in together)
    return {
        "users": plan.readable_users,
        "users_read": plan.full_users,
        "events_of_each": READ,
        "p50_ms": round(p50 * 1_000, 3),
        "p99_ms": round(p99 * 1_000, 3),
        "users_per_second": round(plan.reads / sum(alone.seconds), 1),
        "users_per_cpu_second": round(plan.reads / alone.cpu_seconds, 1),
        "processes": READERS,
        "users_per_second_of_all": round(READERS * plan.reads / span, 1),
    }


class ReadTimes(NamedTuple):
    """What a process's reads took, and when they were, in seconds of the machine's monotonic clock."""

    seconds: list[float]
    cpu_seconds: float
    started: float
    ended: float


def _fill_for_reads(plan: StorePlan, folder: Path) -> None:
    filled = FilledStore(folder, plan.seed)
    lengths = np.full(plan.readable_users, 4)
    lengths[: plan.full_users] = READ
    filled.add(filled.shuffled(lengths), samples=False)
    filled.close()


def _read_all(plan: StorePlan, folder: Path) -> ReadTimes:
    filled = FilledStore(folder, plan.seed)
    wanted = filled.drawn(plan.full_users, plan.reads).tolist()
    filled.store.read(_user_id(0), last=READ)  # loads compiled code
    seconds = []
    first, cpu_started = time.monotonic(), time.process_time()
    for user in wanted:
        started = time.perf_counter()
        filled.store.read(_user_id(user), last=READ)
        seconds.append(time.perf_counter() - started)
    times = ReadTimes(seconds, time.process_time() - cpu_started, first, time.monotonic())
    filled.close()
    return times


def _user_id(user: int) -> str:
    return f"u{user}"


def _record(offset: int, user: int, item: int) -> MadeRecord:
    user_id = _user_id(user)
    ts_ms = FIRST_MS + offset * STEP_MS
    value = (
        f'{{"type":"action","event_id":"e{offset}","user_id":"{user_id}","item_id":"i{item}",'
        f'"ts_ms":{ts_ms},"action":"{ACTIONS[offset % len(ACTIONS)]}"}}'
    )
    return MadeRecord(offset, user_id.encode(), value.encode(), ts_ms)

"""`headwater verify` against running processes: sequences from the workers, ranges from the newest snapshot."""

import time
from collections.abc import Mapping
from typing import Any

import httpx

from storage.errors import SetupError
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from storage.store_settings import StoreSettings
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.plain_fold import FoldRules
from streams.topics import TopicSettings
from streams.verify import (
    Columns,
    ExpectedState,
    VerifyReport,
    compare_dead_letters,
    compare_learned,
    compare_sequences,
    expected_state,
)

APPLIED_SECONDS = 60.0
"""How long the workers may take to apply what the log holds."""
LEARNED_SECONDS = 60.0
"""How long the learner may take to learn and publish what is due."""


def verify_all(
    kafka: KafkaSettings,
    topics: TopicSettings,
    store: StoreSettings,
    worker_urls: tuple[str, ...],
    snapshots: SnapshotSettings,
) -> VerifyReport:
    """Compare everything; waits for workers and learner to reach the log's end. Raises `SetupError`."""
    rules = FoldRules(
        actions=store.actions, cap=store.cap, sample_every=store.sample_every, sample_exposures=store.sample_exposures
    )
    with WorkerSequences(worker_urls) as source:
        expected = expected_state(kafka, topics, rules, source.epoch)
        report = VerifyReport(users=len(expected.users), events=expected.events, impressions=expected.impressions)
        source.wait_applied(expected.last_offsets)
        compare_sequences(expected, source, report)
    compare_learned(expected, newest_ranges(SnapshotStore(snapshots), expected), report)
    compare_dead_letters(expected, kafka, topics, report)
    return report


def newest_ranges(store: SnapshotStore, expected: ExpectedState) -> LearnedRanges:
    """The learned ranges of the first version that has passed every due sample, or of the newest after a while."""
    deadline = time.monotonic() + LEARNED_SECONDS
    while True:
        pointer = store.latest()
        if pointer is None:
            return LearnedRanges()
        manifest = store.manifest(pointer.run_id, pointer.version, pointer.manifest_sha256)
        marks = {int(partition): mark.trigger_offset for partition, mark in manifest.sample_marks.items()}
        passed = all(marks.get(partition, -1) >= offset for partition, offset in expected.due_offsets.items())
        if passed or time.monotonic() > deadline:
            return LearnedRanges.restore(store.load(manifest, "trainer"))
        time.sleep(0.25)


class WorkerSequences:
    """Sequences from the endpoints of the workers; each partition is asked of the worker that owns it."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.urls = urls
        self._client = httpx.Client(timeout=10.0)

    def __enter__(self) -> "WorkerSequences":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def epoch(self, partition: int) -> int:
        """Log epoch of a partition; raises `SetupError` where no worker owns it within a while."""
        deadline = time.monotonic() + APPLIED_SECONDS
        while time.monotonic() < deadline:
            state = self._partitions().get(partition)
            if state is not None:
                return int(state["epoch"])
            time.sleep(0.25)
        raise SetupError(f"no worker of {', '.join(self.urls)} owns partition {partition}; is one running?")

    def wait_applied(self, last_offsets: Mapping[int, int]) -> None:
        """Return once every partition has applied its last offset; raises `SetupError` after a while."""
        deadline = time.monotonic() + APPLIED_SECONDS
        behind = dict(last_offsets)
        while time.monotonic() < deadline:
            owned = self._partitions()
            behind = {
                partition: offset
                for partition, offset in last_offsets.items()
                if int(owned.get(partition, {}).get("applied", -1)) < offset
            }
            if not behind:
                return
            time.sleep(0.25)
        raise SetupError(f"the workers have not applied offsets {behind} (by partition); are they running?")

    def sequence(self, user_id: str) -> Columns:
        """A user's whole sequence; raises `SetupError` where no worker gives it."""
        deadline = time.monotonic() + APPLIED_SECONDS
        while time.monotonic() < deadline:
            for url in self.urls:
                answer = self._get(f"{url}/sequence", user_id=user_id)
                if answer is not None:
                    return answer
            time.sleep(0.25)
        raise SetupError(f"no worker of {', '.join(self.urls)} gives the sequence of user {user_id[:64]!r}")

    def _partitions(self) -> dict[int, Mapping[str, Any]]:
        states = [self._get(f"{url}/state") for url in self.urls]
        return {int(number): state for found in states if found for number, state in found["partitions"].items()}

    def _get(self, url: str, **parameters: str) -> Mapping[str, Any] | None:
        try:
            answer = self._client.get(url, params=parameters)
        except httpx.HTTPError:
            return None
        return dict(answer.json()) if answer.is_success else None

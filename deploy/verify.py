"""`headwater verify` against running processes: sequences from the workers, ranges from the newest snapshot."""

import time
from collections.abc import Mapping
from typing import Any

import httpx

from storage.errors import SetupError
from storage.manifest import SampleMark
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from storage.store_settings import StoreSettings
from streams.expected import ExpectedState, expected_state
from streams.http_access import HttpAccess
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.plain_fold import FoldRules
from streams.topics import TopicSettings
from streams.verify import Columns, VerifyReport, compare_dead_letters, compare_learned, compare_sequences

APPLIED_SECONDS = 60.0
"""How long the workers may take to apply what the log holds."""
LEARNED_SECONDS = 60.0
"""How long the learner may take to learn and publish what is due."""
NO_LONGER_KEPT = 410
"""HTTP status of a worker that no longer has a user's sequence as of the position asked for."""


def verify_all(
    kafka: KafkaSettings,
    topics: TopicSettings,
    store: StoreSettings,
    worker_urls: tuple[str, ...],
    snapshots: SnapshotSettings,
    access: HttpAccess = HttpAccess(),  # noqa: B008 - frozen
) -> VerifyReport:
    """Compare everything that is in the log by now; waits until workers, asked with `access`, and learner have it.

    What comes meanwhile makes no difference. Raises `SetupError`.
    """
    with WorkerSequences(worker_urls, access) as source:
        expected = expected_state(kafka, topics, FoldRules.of(store), source.epoch)
        report = VerifyReport(users=expected.num_users, events=expected.events, impressions=expected.impressions)
        source.wait_applied(expected.last_offsets)
        known_before = compare_sequences(expected, source, report)
    wait_dead_letters(expected, kafka, topics, report)
    ranges, marks = newest_ranges(SnapshotStore(snapshots), expected)
    expected.read_on(kafka, topics, marks)
    compare_learned(expected, ranges, report, known_before)
    return report


def wait_dead_letters(
    expected: ExpectedState, kafka: KafkaSettings, topics: TopicSettings, report: VerifyReport
) -> None:
    """Compare dead letters, again and again for a while where some are missing: they may be on their way."""
    deadline = time.monotonic() + APPLIED_SECONDS
    while True:
        compare_dead_letters(expected, kafka, topics, report)
        if not report.dead_letters_missing or time.monotonic() > deadline:
            return
        time.sleep(1.0)


def newest_ranges(store: SnapshotStore, expected: ExpectedState) -> tuple[LearnedRanges, dict[int, SampleMark]]:
    """The learned ranges, and how far in each partition, of the first version that has passed every due sample.

    Of the newest version where none has done so after a while.
    """
    deadline = time.monotonic() + LEARNED_SECONDS
    while True:
        pointer = store.latest()
        if pointer is None:
            return LearnedRanges(), {}
        manifest = store.manifest(pointer.run_id, pointer.version, pointer.manifest_sha256)
        marks = {int(partition): mark for partition, mark in manifest.sample_marks.items()}
        if _has_passed(marks, expected) or time.monotonic() > deadline:
            return LearnedRanges.restore(store.load(manifest, "trainer")), marks
        time.sleep(0.25)


def _has_passed(marks: Mapping[int, SampleMark], expected: ExpectedState) -> bool:
    passed = {
        number: (mark.trigger_offset, mark.n) for number, mark in marks.items() if expected.is_of_log(number, mark)
    }
    return all(passed.get(number, (-1, -1)) >= sample for number, sample in expected.due.items())


class WorkerSequences:
    """Sequences from the endpoints of the workers; each partition is asked of the worker that owns it."""

    def __init__(self, urls: tuple[str, ...], access: HttpAccess = HttpAccess()) -> None:  # noqa: B008 - frozen
        self.urls = urls
        self._client = httpx.Client(timeout=10.0, headers=access.headers, verify=access.trust())

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

    def sequence(self, user_id: str, until: int) -> Columns | None:
        """A user's whole sequence as of a position; raises `SetupError` where no worker gives it.

        None where it is no longer kept: the user's sequence was trimmed since.
        """
        deadline = time.monotonic() + APPLIED_SECONDS
        while time.monotonic() < deadline:
            for url in self.urls:
                answer = self._ask(f"{url}/sequence", user_id=user_id, until=str(until))
                if answer is not None and answer.status_code == NO_LONGER_KEPT:
                    return None
                if answer is not None and answer.is_success:
                    return dict(answer.json())
            time.sleep(0.25)
        raise SetupError(f"no worker of {', '.join(self.urls)} gives the sequence of user {user_id[:64]!r}")

    def _partitions(self) -> dict[int, Mapping[str, Any]]:
        states = [self._get(f"{url}/state") for url in self.urls]
        return {int(number): state for found in states if found for number, state in found["partitions"].items()}

    def _get(self, url: str) -> Mapping[str, Any] | None:
        answer = self._ask(url)
        return dict(answer.json()) if answer is not None and answer.is_success else None

    def _ask(self, url: str, **parameters: str) -> httpx.Response | None:
        try:
            return self._client.get(url, params=parameters)
        except httpx.HTTPError:
            return None

"""Following the newest snapshot: verified, built beside the one that answers, swapped in by one assignment."""

import logging
import threading
import time
from dataclasses import dataclass

from deploy.freshness import Freshness
from model.recommender import Recommender
from model.settings import ModelSettings
from storage.errors import HeadwaterError, SnapshotError
from storage.manifest import Manifest, Pointer
from storage.snapshot_store import SnapshotStore

MAX_SKIPPED = 1_000
"""Most versions between two loaded ones whose manifests are read."""
MAX_RETRY_SECONDS = 30.0
"""Longest pause before a snapshot that could not be loaded is tried again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica:
    """One loaded version: all that an answer needs of the model, never changed once made."""

    serial: int
    """Place among the replicas that this server has loaded, from 1."""
    recommender: Recommender
    settings: ModelSettings
    manifest: Manifest

    @property
    def version(self) -> str:
        """What answers are stamped with."""
        return f"{self.manifest.run_id}/v{self.manifest.version}"


class Follower:
    """Keeps `replica` at the version that the store's pointer names, looking every `poll_seconds`.

    What an answer uses is read once from `replica`, so it comes from exactly one version. A version is loaded in
    these steps, and a failure in any leaves the former replica answering:

    1. read the pointer and the manifest that it names;
    2. read and verify the weights;
    3. build the recommender, with an index where the catalogue has more than `exact_items`;
    4. tell `freshness` which records are known for the first time, those of versions passed over among them;
    5. swap.

    The records of the first version of a run are not told: they may have been learned long before this server began.
    """

    def __init__(
        self,
        store: SnapshotStore,
        freshness: Freshness,
        *,
        poll_seconds: float,
        exact_items: int | None = None,
    ) -> None:
        self.store = store
        self.freshness = freshness
        self.poll_seconds = poll_seconds
        self.exact_items = exact_items
        self.replica: Replica | None = None
        self.problem: str | None = None
        """Why the newest version is not the one that answers."""
        self.num_loaded = 0
        self.num_failed = 0
        """Failed attempts to load a version."""
        self.num_missed = 0
        """Versions whose manifests were gone before they were seen: their records count in no freshness."""
        self._pointer: Pointer | None = None
        self._high = 0
        self._failed: Pointer | None = None
        self._retry_at = 0.0
        self._retry_seconds = poll_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following and wait for the thread; the replica stays."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def poll(self) -> bool:
        """Look once; whether another version answers now.

        A version that cannot be loaded is logged and counted, and tried again after a growing pause.
        """
        pointer, loaded = None, False
        try:
            pointer = self.store.latest()
            if pointer is not None and pointer != self._pointer:
                if self._waits(pointer):
                    return False
                self._load(pointer)
                loaded = True
        # Whatever a damaged snapshot or a store makes fail must not end the thread: the former version answers on.
        except Exception as error:
            self._note_failure(pointer, error)
            return False
        self.problem = None
        return loaded

    def _run(self) -> None:
        while not self._stop.is_set():
            self.poll()
            self._stop.wait(self.poll_seconds)

    def _load(self, pointer: Pointer) -> None:
        # Step 1.
        manifest = self.store.manifest(pointer.run_id, pointer.version, pointer.manifest_sha256)
        # Steps 2 and 3.
        settings = ModelSettings(**{**manifest.config, "actions": tuple(manifest.config["actions"])})
        arrays = self.store.load(manifest, "model")
        recommender = Recommender.from_state(settings, arrays, exact_items=self.exact_items)
        if self.exact_items is not None and recommender.num_items > self.exact_items:
            _log.info("%s/v%d: %s", manifest.run_id, manifest.version, recommender.index.report)
        serial = self.num_loaded + 1
        # Step 4.
        same_run = self.replica is not None and self.replica.manifest.run_id == manifest.run_id
        if same_run:
            self.freshness.learned(serial, self._news(manifest))
        self._high = max(self._high, manifest.version) if same_run else manifest.version
        # Step 5.
        self.replica = Replica(
            serial=serial,
            recommender=recommender,
            settings=settings,
            manifest=manifest,
        )
        self.num_loaded = serial
        self._pointer = pointer

    def _news(self, manifest: Manifest) -> list[tuple[int, int]]:
        """Kafka times and counts of the records that no version seen before had learned."""
        if manifest.version <= self._high:
            return []
        first = max(self._high + 1, manifest.version - MAX_SKIPPED)
        self.num_missed += first - self._high - 1
        manifests = [manifest]
        for version in range(first, manifest.version):
            try:
                manifests.append(self.store.manifest(manifest.run_id, version))
            except SnapshotError as error:
                self.num_missed += 1
                _log.warning("version %d counts in no freshness figure: %s", version, error)
        return [(kafka_ms, count) for seen in manifests for kafka_ms, count in seen.learned_kafka_ms]

    def _waits(self, pointer: Pointer) -> bool:
        return pointer == self._failed and time.monotonic() < self._retry_at

    def _note_failure(self, pointer: Pointer | None, error: Exception) -> None:
        again = pointer == self._failed
        self._retry_seconds = min(self._retry_seconds * 2, MAX_RETRY_SECONDS) if again else self.poll_seconds
        self._failed = pointer
        self._retry_at = time.monotonic() + self._retry_seconds
        self.num_failed += 1
        named = "the pointer" if pointer is None else f"{pointer.run_id}/v{pointer.version}"
        problem = f"{named} cannot be loaded: {error}"
        if problem != self.problem:
            answering = "nothing answers" if self.replica is None else f"{self.replica.version} goes on answering"
            expected = isinstance(error, HeadwaterError)
            _log.error("%s; %s", problem, answering, exc_info=None if expected else error)
        self.problem = problem

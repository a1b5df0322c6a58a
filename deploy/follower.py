"""Following an alias: its version verified, built beside the one that answers, swapped in by one assignment."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from deploy.freshness import Freshness
from deploy.freshness_parts import learned_records
from model.recommender import Recommender
from model.sequence import NOBODY
from model.settings import ModelSettings
from storage.alias import CHAMPION
from storage.aliases import Aliases, Resolved
from storage.chain import Held
from storage.errors import HeadwaterError, SnapshotError
from storage.manifest import Manifest
from storage.snapshot_store import SnapshotStore
from streams.announcements import Announcements

MAX_SKIPPED = 1_000
"""Most versions between two loaded ones whose manifests are read."""
LEAST_PAUSE_SECONDS = 0.02
"""Between two looks, however often it is asked for one."""
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
    target: tuple[str, int, str]
    """Run, version and the manifest's sha256: what an alias has to stand for if this replica is to stay."""

    @property
    def version(self) -> str:
        """What answers are stamped with."""
        return f"{self.manifest.run_id}/v{self.manifest.version}"


class Follower:
    """Keeps `replica` at the version that an alias stands for, looking every `poll_seconds` and where it is told to.

    What an answer uses is read once from `replica`, so it comes from exactly one version. A version is loaded in
    these steps, and a failure in any leaves the former replica answering:

    1. read the alias, the pointer if it tracks that, and the manifest that is named;
    2. read and verify the weights: of a delta upon the version that answers only what came after that one, and all of
       the chain where this does not fit;
    3. build the recommender beside the one that answers, with an index where the catalogue has more than `exact_items`,
       and have it answer once;
    4. tell `freshness` which records are known for the first time, those of versions passed over among them;
    5. swap.

    The arrays of the version that answers are kept for the next step 2, and nothing is changed in them.

    Each record is told once. Nothing is told of the first version after another run's, whose records may have been
    learned long before, nor of a version that is no newer than one seen before (a rollback); what was told and has had
    no answer by then is withdrawn. A server that begins while its alias is pinned takes what is published for known.
    """

    def __init__(
        self,
        store: SnapshotStore,
        freshness: Freshness,
        *,
        poll_seconds: float,
        exact_items: int | None = None,
        alias: str = CHAMPION,
    ) -> None:
        self.store = store
        self.aliases = Aliases(store)
        self.freshness = freshness
        self.alias = alias
        self.poll_seconds = poll_seconds
        self.exact_items = exact_items
        self.announcements: Announcements | None = None
        """What has it look at once; started and stopped with it."""
        self.replica: Replica | None = None
        self.problem: str | None = None
        """Why the version that the alias stands for is not the one that answers."""
        self.followed: Resolved | None = None
        """What the alias stood for when it was last read."""
        self.num_loaded = 0
        self.num_failed = 0
        """Failed attempts to load a version."""
        self.num_missed = 0
        """Versions whose manifests were gone before they were seen: their records count in no freshness."""
        self.num_reloaded = 0
        """Versions that did not fit what was held, and were read with all of their chain."""
        self._held: Held | None = None
        self._high = 0
        """Up to which version of the replica's run all records have been told."""
        self._failed: Resolved | None = None
        self._retry_at = 0.0
        self._retry_seconds = poll_seconds
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow in a thread."""
        self._thread.start()
        if self.announcements is not None:
            self.announcements.start()

    def stop(self) -> None:
        """Stop following and wait for the thread; the replica stays."""
        if self.announcements is not None:
            self.announcements.stop()
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def look(self) -> None:
        """Look at the alias at once: there may be something new."""
        self._wake.set()

    def poll(self) -> bool:
        """Look once; whether another version answers now.

        A version that cannot be loaded is logged and counted, and tried again after a growing pause.
        """
        resolved, loaded = None, False
        try:
            resolved = self.aliases.resolve(self.alias)
            self.followed = resolved
            if resolved is not None and not self._answers(resolved):
                if self._waits(resolved):
                    return False
                self._load(resolved)
                loaded = True
        # Whatever a damaged snapshot or a store makes fail must not end the thread: the former version answers on.
        except Exception as error:
            self._note_failure(resolved, error)
            return False
        self.problem = None
        return loaded

    def _run(self) -> None:
        while not self._stop.is_set():
            # Cleared before the look: what comes during it may have come too late for it.
            self._wake.clear()
            self.poll()
            if not self._stop.wait(min(LEAST_PAUSE_SECONDS, self.poll_seconds)):
                self._wake.wait(self.poll_seconds)

    def _answers(self, resolved: Resolved) -> bool:
        return self.replica is not None and self.replica.target == resolved.target

    def _load(self, resolved: Resolved) -> None:
        # Step 1.
        manifest = self.store.manifest(resolved.run_id, resolved.version, resolved.manifest_sha256)
        # Steps 2 and 3.
        settings = ModelSettings(**{**manifest.config, "actions": tuple(manifest.config["actions"])})
        arrays = self._fetch(manifest)
        fetched_ms = self.freshness.clock_ms()
        former = None if self.replica is None else self.replica.recommender
        recommender = Recommender.from_state(settings, arrays, exact_items=self.exact_items, former=former)
        # What is slow once, and what does not work at all, shows before anyone is answered.
        recommender.recommend(NOBODY, now_ms=manifest.event_time_ms, k=1)
        if self.exact_items is not None and recommender.num_items > self.exact_items:
            _log.info("%s/v%d: %s", manifest.run_id, manifest.version, recommender.index.report)
        serial = self.num_loaded + 1
        # Step 4.
        self._tell(serial, manifest, resolved, fetched_ms)
        # Step 5.
        self.replica = Replica(
            serial=serial, recommender=recommender, settings=settings, manifest=manifest, target=resolved.target
        )
        self._held = Held(manifest, arrays)
        self.num_loaded = serial

    def _fetch(self, manifest: Manifest) -> Mapping[str, npt.NDArray[Any]]:
        held = self._held
        try:
            return self.store.load(manifest, "model", held)
        except SnapshotError as error:
            if held is None or not held.precedes(manifest):
                raise
            _log.warning("%s; all of its chain is read", error)
        arrays = self.store.load(manifest, "model")
        self.num_reloaded += 1
        return arrays

    def _tell(self, serial: int, manifest: Manifest, resolved: Resolved, fetched_ms: int) -> None:
        run_id, version = manifest.run_id, manifest.version
        same_run = self.replica is not None and self.replica.manifest.run_id == run_id
        # Versions beyond a pinned one may have answered before it was pinned.
        published = self.store.versions(run_id) if resolved.pinned and not same_run else []
        high = self._high if same_run else max([version, *published])
        if version > high:
            news = [learned_records(each) for each in self._news(manifest, high)]
            self.freshness.learned(serial, news, moved_ms=resolved.moved_ms, fetched_ms=fetched_ms)
        else:
            self.freshness.withdraw()
        self._high = max(high, version)

    def _news(self, manifest: Manifest, high: int) -> list[Manifest]:
        """The manifests of what no version up to `high` had learned."""
        first = max(high + 1, manifest.version - MAX_SKIPPED)
        skipped = range(first, manifest.version)
        # After a long rollback most are deleted: one listing, not a thousand reads that fail.
        there = set(self.store.versions(manifest.run_id)).intersection(skipped) if skipped else set()
        manifests = [manifest]
        for version in sorted(there):
            try:
                manifests.append(self.store.manifest(manifest.run_id, version))
            except SnapshotError as error:
                _log.warning("version %d counts in no freshness figure: %s", version, error)
        num_missed = manifest.version - high - len(manifests)
        if num_missed:
            named = f"{manifest.run_id}/v{manifest.version}"
            _log.warning("%d versions before %s count in no freshness figure: they are deleted", num_missed, named)
        self.num_missed += num_missed
        return manifests

    def _waits(self, resolved: Resolved) -> bool:
        return resolved == self._failed and time.monotonic() < self._retry_at

    def _note_failure(self, resolved: Resolved | None, error: Exception) -> None:
        again = resolved == self._failed
        self._retry_seconds = min(self._retry_seconds * 2, MAX_RETRY_SECONDS) if again else self.poll_seconds
        self._failed = resolved
        self._retry_at = time.monotonic() + self._retry_seconds
        self.num_failed += 1
        named = f"alias {self.alias}" if resolved is None else f"{resolved.run_id}/v{resolved.version}"
        problem = f"{named} cannot be loaded: {error}"
        if problem != self.problem:
            answering = "nothing answers" if self.replica is None else f"{self.replica.version} goes on answering"
            expected = isinstance(error, HeadwaterError)
            _log.error("%s; %s", problem, answering, exc_info=None if expected else error)
        self.problem = problem

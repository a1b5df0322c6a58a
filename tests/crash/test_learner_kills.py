"""A learner that is killed again and again on an Apache Kafka ends, bit for bit, as one that never was."""

import os
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy.broker import free_port
from deploy.settings import Settings, dump_settings
from deploy.supervisor import headwater_command
from storage.snapshot_store import SnapshotStore
from streams.rank_log import ENTRY
from streams.samples import encode_sample
from streams.staleness import Staleness
from tests.brokers import BROKERS, Broker, fresh_topics, wait_until
from tests.streams.learner_bench import assert_same_end, newest_arrays, newest_manifest
from tests.streams.made_samples import make_samples

PARTITIONS = 4
MOST_EVENTS = 1_000
"""Most events that a learner lives for, beyond where it began; versions are 384 apart."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class LearnerProcess:
    """`headwater learn` on one log, in a folder of its own."""

    settings: Settings
    folder: Path

    @classmethod
    def made(cls, settings: Settings, folder: Path) -> "LearnerProcess":
        """Everything switched on, and a vocabulary that has too few rows for the log's items."""
        folder.mkdir()
        own = replace(
            settings,
            model=replace(settings.model, actions=("like", "dislike")),
            learn=replace(settings.learn, max_items=1_500),
            learner=replace(
                settings.learner,
                publish_steps=3,
                publish_seconds=1e9,
                staleness_every=7,
                ranks=folder / "ranks",
                metrics_port=free_port(),
            ),
            snapshots=replace(settings.snapshots, url=str(folder / "snapshots"), keep=1_000),
        )
        (folder / "settings.toml").write_text(dump_settings(own))
        return cls(own, folder)

    def start(self) -> "subprocess.Popen[bytes]":
        command = headwater_command("--config", str(self.folder / "settings.toml"), "learn")
        with (self.folder / "learn.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def num_ranks(self) -> int:
        """Ranks in the log of ranks."""
        path = self.folder / "ranks"
        return path.stat().st_size // ENTRY.itemsize if path.exists() else 0

    def num_starts(self) -> int:
        """How often a learner has said where it goes on from."""
        return (self.folder / "learn.log").read_text().count("going on from")

    def kill_after(self, num_events: int) -> int:
        """A life of so many events, ended by SIGKILL; how many of the ranks of the life before were scored again."""
        before, starts = self.num_ranks(), self.num_starts() if (self.folder / "learn.log").exists() else 0
        process = self.start()
        try:
            wait_until("it goes on", lambda: self.num_starts() > starts, 120)
            began = self.num_ranks()
            wait_until(f"{num_events} events more", lambda: self.num_ranks() >= began + num_events, 120)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
        return before - began

    def finish(self, num_samples: int) -> None:
        """Learn to the end of the log, where each sample has a target, and stop in good order."""
        process = self.start()
        try:
            wait_until("all is learned", lambda: self.num_ranks() == num_samples, 600)
        finally:
            process.terminate()
            assert process.wait(60) == 0, (self.folder / "learn.log").read_text()

    def metrics(self) -> dict[str, float]:
        """Figures in its newest version, but for those that begin anew with each life."""
        own = Staleness(self.settings.model, every=1).figures()
        told = newest_manifest(self.store).metrics
        assert told["staleness_targets"] > 0
        return {name: value for name, value in told.items() if name not in own}

    @property
    def store(self) -> SnapshotStore:
        """Where its versions are."""
        return SnapshotStore(self.settings.snapshots)


def send_samples(broker: Broker, num_samples: int) -> Settings:
    """A log of samples that no learner has read; the settings of who is to read it."""
    kafka, topics = fresh_topics(broker, num_partitions=PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=list(kafka.bootstrap_servers))
    for sample in make_samples(num_samples, num_users=60, num_items=4_000, num_partitions=PARTITIONS):
        producer.send(topics.samples, value=encode_sample(sample), partition=sample.partition)
    producer.flush(timeout=60)
    producer.close()
    return replace(Settings(), kafka=kafka, topics=topics)


@pytest.mark.parametrize(("num_kills", "num_samples"), [(3, 3_000), pytest.param(20, 12_000, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("broker", [BROKERS[1]], indirect=True)
def test_a_learner_killed_anywhere_ends_as_one_that_never_was(
    broker: Broker, tmp_path: Path, num_kills: int, num_samples: int
) -> None:
    """Weights, vocabulary, memory or offsets of different instants; a sample learned twice, never, or out of turn."""
    settings = send_samples(broker, num_samples)
    unbroken, killed = (LearnerProcess.made(settings, tmp_path / name) for name in ("unbroken", "killed"))
    lives = np.random.default_rng(num_kills).integers(0, MOST_EVENTS, num_kills).tolist()
    scored_again = [killed.kill_after(num_events) for num_events in lives]
    print(f"killed after {lives} events; scored again {scored_again}")
    assert sum(scored_again) > 0
    assert killed.num_ranks() < num_samples
    killed.finish(num_samples)
    unbroken.finish(num_samples)
    assert_same_end(killed.store, unbroken.store)
    assert newest_arrays(killed.store)["learner.counters"][-1] > 0, "rows were to be taken back"
    assert killed.metrics() == unbroken.metrics()
    assert (killed.folder / "ranks").read_bytes() == (unbroken.folder / "ranks").read_bytes()

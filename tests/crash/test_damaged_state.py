"""Disks that are full, files that are damaged, states that are old."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.plain_log import read_topic
from tests.brokers import Broker
from tests.crash.cluster import EXPLAINED, NUM_PARTITIONS, Cluster
from tests.crash.load import Load

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600)]


def flip(file: Path) -> None:
    """Change the bytes of a file's first half, leaving other links to it alone."""
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[:half] = bytes(byte ^ 0x5A for byte in content[:half])
    _put(file, bytes(content))


def cut(file: Path) -> None:
    """Leave half of a file, leaving other links to it alone."""
    _put(file, file.read_bytes()[: file.stat().st_size // 2])


def drop(file: Path) -> None:
    """Delete a file."""
    file.unlink()


def _put(file: Path, content: bytes) -> None:
    other = file.with_suffix(".other")
    other.write_bytes(content)
    other.replace(file)


def newest_checkpoints(folder: Path) -> list[Path]:
    """The newest checkpoint of each partition."""
    newest: dict[str, tuple[int, Path]] = {}
    for place in (folder / "checkpoints").glob("p*@*"):
        if place.suffix != ".tmp":
            partition, applied = place.name.partition(".")[0], int(place.name.partition("@")[2].partition(".")[0])
            newest[partition] = max(newest.get(partition, (-1, place)), (applied, place))
    return [place for _, place in newest.values()]


@pytest.mark.matrix
def test_a_full_disk_ends_a_worker_and_costs_nothing(kafka: Broker, tmp_path: Path) -> None:
    """A batch that could not be written is taken for written, and its offset goes on."""
    with Cluster(kafka, tmp_path, shared=False) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=20, per_second=1_500):
            cluster.start("w1", file_bytes=50_000)
            cluster.start("w2")
            assert cluster.ended("w1") == EXPLAINED, cluster.log("w1")
            cluster.wait_held()
            cluster.start("w1")
            cluster.wait_applied(500)
        cluster.assert_exact()


@pytest.mark.matrix
@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_table_ends_a_worker_that_says_what_to_do(
    kafka: Broker, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """What cannot be read is taken for absent, so that users lose their past."""
    with Cluster(kafka, tmp_path) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=21):
            cluster.start("w1")
            cluster.wait_applied(1_500)
            assert cluster.end("w1") == 0
            for table in (cluster.folder("w1") / "p0").glob("*.sst"):
                damage(table)
            cluster.start("w1")
            assert cluster.ended("w1") == EXPLAINED
            said = cluster.log("w1")
            assert f"state in {cluster.folder('w1') / 'p0'} cannot be" in said
            assert "delete this folder: the newest checkpoint is restored in its place" in said
            shutil.rmtree(cluster.folder("w1") / "p0")
            cluster.start("w1")
            cluster.wait_applied(100)
        cluster.assert_exact()


@pytest.mark.parametrize(
    ("damage", "files"),
    [
        pytest.param(flip, "*.sst", id="flipped-table", marks=pytest.mark.matrix),
        pytest.param(cut, "*.sst", id="cut-table", marks=pytest.mark.matrix),
        pytest.param(cut, "MANIFEST-*", id="cut-manifest", marks=pytest.mark.matrix),
        pytest.param(drop, "CURRENT", id="no-current", marks=pytest.mark.matrix),
        pytest.param(drop, "*.sst", id="no-table", marks=pytest.mark.matrix),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(
    kafka: Broker, tmp_path: Path, damage: Callable[[Path], None], files: str
) -> None:
    """A worker that restores what is damaged, again and again."""
    with Cluster(kafka, tmp_path) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=22):
            cluster.start("w1")
            cluster.wait_applied(1_500)
            cluster.end("w1", 9)
            cluster.wipe("w1")
            damaged = newest_checkpoints(cluster.folder("w1"))
            assert len(damaged) == NUM_PARTITIONS
            for place in damaged:
                found = list(place.glob(files))
                assert found
                for file in found:
                    damage(file)
            cluster.start("w1")
            cluster.wait_applied(300)
        cluster.assert_exact()
        assert cluster.log("w1", 1_000_000).count("is passed over") == NUM_PARTITIONS
    assert cluster.exits[0] == ("w1", -9)


def test_an_older_checkpoint_leads_to_the_same_samples(kafka: Broker, tmp_path: Path) -> None:
    """A replay from a state before some `Tick`s sends other samples under the ids of those that were sent."""
    with Cluster(kafka, tmp_path) as cluster:
        kept = tmp_path / "kept"
        with Load(cluster.kafka, cluster.topics, seed=23):
            cluster.start("w1")
            cluster.wait_applied(800)
            assert cluster.end("w1") == 0
            shutil.copytree(cluster.folder("w1") / "checkpoints", kept)
            cluster.start("w1")
            cluster.wait_applied(400)
        cluster.wait_quiet()
        assert any(b'"tick"' in record.value for record in read_topic(cluster.kafka, cluster.topics.events))
        cluster.end("w1", 9)
        shutil.rmtree(cluster.folder("w1"))
        os.renames(kept, cluster.folder("w1") / "checkpoints")
        with Load(cluster.kafka, cluster.topics, seed=24):
            cluster.start("w1")
            cluster.wait_applied(400)
        found = cluster.assert_exact()
    assert found.repeated > 50

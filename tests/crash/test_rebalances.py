"""Workers that come, go, die and freeze while events come in."""

import time
from pathlib import Path

import pytest

from tests.brokers import Broker, wait_until
from tests.crash.cluster import NUM_PARTITIONS, Cluster
from tests.crash.load import Load

SESSION_SECONDS = 6.0
pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600)]


def come_and_go(cluster: Cluster, load: Load) -> None:
    """One worker, two, three; one leaves, one is killed, both come back."""
    cluster.start("w1")
    cluster.wait_applied(100)
    cluster.start("w2")
    cluster.wait_shared_by(2)
    cluster.start("w3")
    cluster.wait_shared_by(3)
    assert cluster.end("w2") == 0
    cluster.wait_applied(200)
    cluster.end("w3", 9)
    cluster.start("w2")
    cluster.wait_applied(200)
    cluster.start("w3")
    cluster.wait_shared_by(3)
    load.stop()


def test_partitions_wander_under_load(kafka: Broker, tmp_path: Path) -> None:
    """A partition that moves loses what was in flight, or is applied by two at once."""
    with Cluster(kafka, tmp_path, static=False) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=3) as load:
            come_and_go(cluster, load)
        cluster.assert_exact()


@pytest.mark.matrix
@pytest.mark.parametrize("shared", [True, False], ids=["one-folder", "own-folders"])
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_partitions_wander_in_every_setup(kafka: Broker, tmp_path: Path, *, shared: bool, static: bool) -> None:
    """The same with every kind of membership and of state folder."""
    with Cluster(kafka, tmp_path, shared=shared, static=static) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=4) as load:
            come_and_go(cluster, load)
        cluster.assert_exact()


@pytest.mark.matrix
@pytest.mark.parametrize("shared", [True, False], ids=["one-folder", "own-folders"])
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_a_frozen_worker_comes_back_as_a_zombie(kafka: Broker, tmp_path: Path, *, shared: bool, static: bool) -> None:
    """What it held in memory is applied or sent after another has taken its partitions over."""
    with Cluster(kafka, tmp_path, shared=shared, static=static, session_seconds=SESSION_SECONDS) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=5):
            cluster.start("w1", "w2", "w3")
            cluster.wait_shared_by(3)
            cluster.freeze("w1")
            time.sleep(3 * SESSION_SECONDS)
            if not shared:
                wait_until("the others hold all", lambda: len(cluster.partitions()) == NUM_PARTITIONS)
                cluster.wait_applied(100)
            cluster.thaw("w1")
            cluster.wait_shared_by(3)
            cluster.wait_applied(300)
        cluster.assert_exact()


@pytest.mark.matrix
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_a_new_machine_takes_the_place_of_a_dead_one(kafka: Broker, tmp_path: Path, *, static: bool) -> None:
    """With neither state nor checkpoints, a worker begins where its group was and not where it is itself."""
    with Cluster(kafka, tmp_path, shared=False, static=static) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=6):
            cluster.start("w1", "w2")
            cluster.wait_shared_by(2)
            cluster.wait_applied(500)
            for name in ("w1", "w2", "w1"):
                cluster.end(name, 9)
                cluster.wipe(name, checkpoints=True)
                cluster.start(name)
                cluster.wait_applied(200)
        cluster.assert_exact()

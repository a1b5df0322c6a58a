"""Three workers, stopped and started again one after the other while events come in."""

from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.crash.cluster import NUM_PARTITIONS, Cluster
from tests.crash.load import Load
from tests.crash.pauses import PauseMeter, summary

NAMES = ("w1", "w2", "w3")
pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.mark.matrix
@pytest.mark.parametrize("shared", [True, False], ids=["one-folder", "own-folders"])
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_a_rolling_restart_loses_nothing_and_says_how_long_it_paused(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, shared: bool, static: bool
) -> None:
    """What every upgrade does to an installation."""
    pauses: list[float] = []
    with Cluster(kafka, tmp_path, shared=shared, static=static) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=40, per_second=400):
            cluster.start(*NAMES)
            cluster.wait_shared_by(3)
            cluster.wait_applied(500)
            with PauseMeter(lambda: dict(cluster.workers)) as meter:
                cluster.wait_applied(200)
                meter.take()
                for name in NAMES:
                    assert cluster.end(name) == 0
                    cluster.start(name)
                    cluster.wait_shared_by(3)
                    cluster.wait_applied(400)
                    taken = meter.take()
                    assert len(taken) == NUM_PARTITIONS
                    pauses += taken.values()
                    print(f"{name}:", ", ".join(f"p{number} {pause:.2f} s" for number, pause in taken.items()))
        cluster.assert_exact()
    kind = f"{'static' if static else 'dynamic'} members, {'one folder' if shared else 'own folders'}"
    with capsys.disabled():
        print(f"\n  pauses of partitions, {kind}: {summary(pauses)}", end=" ")

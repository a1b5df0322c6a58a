"""kill -9 at every numbered step of every protocol that a worker runs."""

from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.crash.cluster import Cluster
from tests.crash.load import Load
from tests.crash.step_points import all_step_points, step_points

OF_LEARNER = "storage/snapshot_store.py"
POINTS = [point for point in all_step_points() if not point.startswith(OF_LEARNER)]
pytestmark = [pytest.mark.slow, pytest.mark.kafka]


def die_and_come_back(cluster: Cluster, point: str, hit: int) -> None:
    """Have `w1` die at the point while others go on, and start it again."""
    if ":Checkpoints.restore:" in point:
        cluster.wipe("w1")
    cluster.start("w1", point=point, hit=hit)
    assert cluster.ended("w1") == -9, f"at {point}: {cluster.log('w1')}"


@pytest.mark.timeout(240)
def test_a_worker_may_die_after_each_step_in_turn(kafka: Broker, tmp_path: Path) -> None:
    """A step that leaves something half done, which whoever comes next takes for done."""
    with Cluster(kafka, tmp_path) as cluster:
        cluster.start("w2")
        with Load(cluster.kafka, cluster.topics, seed=1):
            cluster.start("w1")
            cluster.wait_applied(200)
            cluster.end("w1", 9)
            for point in POINTS:
                die_and_come_back(cluster, point, hit=1)
            cluster.start("w1")
            cluster.wait_applied(200)
        found = cluster.assert_exact()
    assert found.events > 2_000
    assert [status for _, status in cluster.exits[: len(POINTS) + 1]] == [-9] * (len(POINTS) + 1)


@pytest.mark.matrix
@pytest.mark.timeout(180)
@pytest.mark.parametrize("shared", [True, False], ids=["one-folder", "own-folders"])
@pytest.mark.parametrize("others", [("w2",), ("w2", "w3")], ids=["two", "three"])
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_may_die_after_a_step(
    kafka: Broker, tmp_path: Path, point: str, others: tuple[str, ...], *, shared: bool
) -> None:
    """The same, compared after each death."""
    with Cluster(kafka, tmp_path, shared=shared) as cluster, Load(cluster.kafka, cluster.topics, seed=2) as load:
        cluster.start("w1", *others)
        cluster.wait_applied(200)
        cluster.end("w1", 9)
        die_and_come_back(cluster, point, hit=3 if "Worker.apply" in point else 1)
        cluster.start("w1")
        cluster.wait_applied(200)
        load.stop()
        cluster.assert_exact()


def test_every_protocol_numbers_its_steps_from_one() -> None:
    """A step that is numbered in no comment is in no crash test."""
    expected = {"apply", "place", "create", "restore", "_send_some"}
    by_function: dict[str, list[int]] = {}
    for point in POINTS:
        _, function, number = point.split(":")
        by_function.setdefault(function, []).append(int(number))
    assert expected <= {function.rpartition(".")[2] for function in by_function}
    for function, numbers in by_function.items():
        assert numbers == sorted(set(numbers)), function
        assert numbers[0] == 0, function


def test_the_points_of_a_file_lie_around_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points that are not where they are said to be, so that a crash test kills elsewhere, or nowhere."""
    monkeypatch.setattr("tests.crash.step_points.ROOT", tmp_path)
    file = tmp_path / "some.py"
    file.write_text(
        "class A:\n    def go(self):\n        # Step 1.\n        a()\n        # Steps 2 and 3.\n        b()\n"
    )
    assert step_points(file) == ["some.py:A.go:0", "some.py:A.go:1", "some.py:A.go:3"]

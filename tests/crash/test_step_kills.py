"""kill -9 at every numbered step of every protocol that a worker runs."""

import ast
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.crash.cluster import Cluster
from tests.crash.load import Load
from tests.crash.step_points import OF_SHIPPING, ROOT, step_points, worker_points

POINTS = worker_points()
PROTOCOLS = list(dict.fromkeys(point.rpartition(":")[0] for point in POINTS))
ALONE = [point for point in POINTS if not point.startswith(OF_SHIPPING)]
pytestmark = [pytest.mark.slow, pytest.mark.kafka]


def die_and_come_back(cluster: Cluster, deaths: dict[str, str], hit: int = 1) -> None:
    """Have workers, which are dead, start and die at points."""
    for name, point in deaths.items():
        cluster.prepare(name, point)
    for name, point in deaths.items():
        cluster.start(name, point=point, hit=hit, ahead_records=0)
    for name, point in deaths.items():
        assert cluster.ended(name) == -9, f"at {point}: {cluster.log(name)}"


@pytest.mark.timeout(300)
def test_workers_may_die_after_each_step_in_turn(kafka: Broker, tmp_path: Path) -> None:
    """A step that leaves something half done, which whoever comes next takes for done."""
    # A session so long that the partitions of the dead wait for them: what is to be restored must be nobody's.
    with Cluster(kafka, tmp_path, session_seconds=60.0) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=1):
            cluster.start("w1", "w2", "w3")
            cluster.wait_shared_by(3)
            cluster.wait_applied(200)
            for name in ("w1", "w2"):
                cluster.end(name, 9)
            for first, second in zip_longest(ALONE[::2], ALONE[1::2]):
                die_and_come_back(cluster, {"w1": first, **({"w2": second} if second else {})})
            cluster.start("w1", "w2")
            cluster.wait_applied(200)
        found = cluster.assert_exact()
    assert found.events > 2_000
    assert [status for _, status in cluster.exits[: len(ALONE) + 2]] == [-9] * (len(ALONE) + 2)


@pytest.mark.matrix
@pytest.mark.timeout(600)
@pytest.mark.parametrize("others", [("w2",), ("w2", "w3")], ids=["two", "three"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_worker_may_die_after_a_step(kafka: Broker, tmp_path: Path, protocol: str, others: tuple[str, ...]) -> None:
    """The same, compared after each death, with folders of their own and checkpoints that are shipped."""
    points = [point for point in POINTS if point.startswith(f"{protocol}:")]
    with Cluster(kafka, tmp_path, shared=False, checkpoint_url=str(tmp_path / "shipped")) as cluster:
        cluster.start("w1", *others)
        cluster.wait_shared_by(1 + len(others))
        for number, point in enumerate(points):
            with Load(cluster.kafka, cluster.topics, seed=50 + number):
                cluster.wait_applied(100)
                cluster.end("w1", 9)
                cluster.keep("w1")
                cluster.start("w1")
                cluster.wait_applied(200)
                cluster.wait_shipped()
                cluster.end("w1", 9)
                die_and_come_back(cluster, {"w1": point}, hit=3 if "Worker.apply" in point else 1)
                cluster.start("w1")
                cluster.wait_applied(100)
            cluster.assert_exact(replayed=point == points[-1])


def test_every_protocol_numbers_its_steps_from_one_to_the_last_that_it_names() -> None:
    """A step that is numbered in no comment is in no crash test."""
    by_function: dict[tuple[str, str], list[int]] = {}
    for point in POINTS:
        file, function, number = point.split(":")
        by_function.setdefault((file, function), []).append(int(number))
    assert {"apply", "place", "create", "restore", "ship", "_send_some"} <= {
        function.rpartition(".")[2] for _, function in by_function
    }
    for (file, function), numbers in by_function.items():
        assert numbers == sorted(set(numbers)), function
        assert f"{numbers[-1]}. " in (ast.get_docstring(_node(file, function)) or "") + _module_doc(file), function


def test_the_points_of_a_file_lie_around_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points that are not where they are said to be, so that a crash test kills elsewhere, or nowhere."""
    monkeypatch.setattr("tests.crash.step_points.ROOT", tmp_path)
    file = tmp_path / "some.py"
    file.write_text(
        "class A:\n    def go(self):\n        # Step 1.\n        a()\n        # Steps 2 and 3. Why.\n        b()\n"
    )
    assert step_points(file) == ["some.py:A.go:0", "some.py:A.go:1", "some.py:A.go:3"]


def _node(file: str, function: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    *_, name = function.split(".")
    nodes = [node for node in ast.walk(ast.parse((ROOT / file).read_text())) if getattr(node, "name", "") == name]
    (found,) = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return found


def _module_doc(file: str) -> str:
    return ast.get_docstring(ast.parse((ROOT / file).read_text())) or ""

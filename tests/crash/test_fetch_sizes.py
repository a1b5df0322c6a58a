"""The same log in portions of every size, by one worker and by three, with and without restarts: the same samples."""

from pathlib import Path

import pytest

from streams.plain_log import read_topic
from tests.brokers import Broker
from tests.crash.cluster import Cluster
from tests.crash.load import close_sessions, fill
from tests.crash.step_points import point_named
from tests.crash.test_log_faults import send_transaction

KIB, MIB = {"fetch_bytes": 1024, "chunk_records": 7}, {"fetch_bytes": 1024 * 1024, "chunk_records": 2_000}
NUM_EVENTS = 6_000
DEATHS = [(point_named("_send_some", 3), 2), (point_named("Worker.apply", 1), 1), (point_named("_send_some", 2), 1)]
"""Points at which the first, second and third worker die, and how often they have been there."""
pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600)]


def consume(cluster: Cluster, names: tuple[str, ...], portions: dict[str, int], *, restarts: bool) -> None:
    """Have workers read the whole log, each of them killed on the way where `restarts`."""
    for name, (point, hit) in zip(names, DEATHS, strict=False):
        cluster.start(name, **portions, **({"point": point, "hit": hit} if restarts else {}))
    if restarts:
        for name in names:
            assert cluster.ended(name) == -9, cluster.log(name)
            cluster.start(name, **portions)
    cluster.wait_quiet()
    for name in names:
        cluster.end(name)


def sent_between(cluster: Cluster, before: dict[int, int]) -> tuple[dict[bytes, bytes], dict[int, int]]:
    """Body of each sample by id, of those sent since then; and the ends of the partitions now."""
    bodies: dict[bytes, bytes] = {}
    ends = dict(before)
    for record in read_topic(cluster.kafka, cluster.topics.samples):
        ends[record.partition] = record.offset + 1
        if record.offset >= before.get(record.partition, 0):
            sample_id = dict(record.headers)["id"]
            assert bodies.setdefault(sample_id, record.value) == record.value
    return bodies, ends


def num_records(cluster: Cluster) -> int:
    """Records of the log."""
    return sum(1 for _ in read_topic(cluster.kafka, cluster.topics.events))


@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.matrix)])
def test_samples_do_not_depend_on_how_the_log_was_read(kafka: Broker, tmp_path: Path, *, thorough: bool) -> None:
    """A sample that depends on where a chunk ended is another one after a restart."""
    first = Cluster(kafka, tmp_path / "first")
    fill(first.kafka, first.topics, seed=30, count=NUM_EVENTS // 2)
    send_transaction(first, "committed", commit=True)
    send_transaction(first, "aborted", commit=False)
    fill(first.kafka, first.topics, seed=31, count=NUM_EVENTS // 2)
    close_sessions(first.kafka, first.topics)
    before = num_records(first)
    with first:
        consume(first, ("w1",), MIB, restarts=False)
    expected, ends = sent_between(first, {})
    assert len(expected) > 1_000
    runs = [(("w1",), KIB, False), (("w1", "w2", "w3"), MIB, True)]
    if thorough:
        runs += [(("w1",), KIB, True), (("w1",), MIB, True), (("w1", "w2", "w3"), KIB, False)]
        runs += [(("w1", "w2", "w3"), KIB, True), (("w1", "w2", "w3"), MIB, False)]
    for number, (names, portions, restarts) in enumerate(runs):
        with Cluster(kafka, tmp_path / f"{number}", shared=False, like=first) as cluster:
            consume(cluster, names, portions, restarts=restarts)
        sent, ends = sent_between(first, ends)
        assert sent.keys() == expected.keys(), (names, portions, restarts)
        assert sent == expected, (names, portions, restarts)
    assert num_records(first) == before, "a record was appended"

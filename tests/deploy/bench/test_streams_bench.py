import os
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.bench.event_log import EventLog
from deploy.bench.own_workers import OwnWorkers
from deploy.bench.peers import NotRunError, Peers
from deploy.bench.rows import Planned, System
from deploy.bench.streams import Places, run_streams_bench
from deploy.bench.streams_plan import StreamsPlan
from deploy.settings import Settings
from storage.errors import SetupError
from streams.kafka_settings import KafkaSettings
from tests.brokers import ApacheKafka, new_broker

LOG = EventLog(name="log", events=10, users=2, event_ids=True)


def planned(system: System) -> Planned:
    return Planned(system=system, job="append", workers=1, log=LOG, events=10)


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(
        address="127.0.0.1:1",
        folder=tmp_path,
        cache=tmp_path,
        streams_peer=None,
        kafka_home=tmp_path,
        environ=os.environ,
    )


def test_kafka_streams_is_not_run_where_nobody_said_where_it_is(peers: Peers) -> None:
    """The table must come out without it, and say so."""
    with pytest.raises(NotRunError, match="HEADWATER_STREAMS_PEER is not set"):
        peers.run(planned("kafka-streams"), "run-1")


def test_quixstreams_is_not_run_where_pip_fails(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a package index the table must come out all the same."""
    monkeypatch.setattr("deploy.bench.peers.sys.executable", "false")
    with pytest.raises(NotRunError, match="pip could not install quixstreams"):
        peers.run(planned("quixstreams"), "run-1")


@pytest.mark.kafka
@pytest.mark.slow
def test_a_small_table_comes_out_and_is_not_made_twice(tmp_path: Path) -> None:
    """The command is run on release day by whoever checks the claims."""
    plan = StreamsPlan(
        events=3_000,
        users=50,
        workers=(1,),
        partitions=2,
        peer_events=0,
        only=("aiokafka", "kafka-streams", "headwater"),
    )
    broker = new_broker("kafka", tmp_path)
    assert isinstance(broker, ApacheKafka)
    places = Places(kafka_home=broker.home, streams_peer=None, folder=tmp_path / "bench", environ=os.environ)
    file, said = tmp_path / "rows.json", list[str]()
    rows = run_streams_bench(plan, places, file, verify=True, say=said.append).rows
    by_run = {(row.system, row.job): row for row in rows}
    assert by_run["kafka-streams", "append"].note.startswith("not run")
    assert by_run["headwater", "append"].samples == EventLog(
        name="log", events=3_000, users=50, event_ids=True
    ).num_samples(20)
    assert by_run["headwater", "whole"].note == "verified: all findings 0"
    assert all(row.job_cpu_seconds for row in rows if row.system != "kafka-streams")
    said.clear()
    again = run_streams_bench(replace(plan, only=("aiokafka", "headwater")), places, file, verify=True, say=said.append)
    assert said == []
    assert len(again.rows) == 3


def test_a_worker_that_cannot_start_ends_the_table_with_its_last_words(tmp_path: Path) -> None:
    """Without it, the clock would run for half an hour."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=("127.0.0.1:1",), connect_seconds=0.1))
    with (
        OwnWorkers(settings, tmp_path, workers=1, environ=os.environ) as workers,
        pytest.raises(SetupError, match="a worker ended with 2"),
    ):
        workers.run({0: 1}, limit_seconds=60)

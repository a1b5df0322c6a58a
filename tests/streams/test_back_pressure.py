"""A worker whose samples Kafka does not take."""

from functools import partial
from pathlib import Path

import pytest

from storage.store_settings import StoreSettings
from tests.brokers import Broker, fresh_topics, wait_until
from tests.streams.test_worker import ACTIONS, make_events, send_events
from tests.streams.workers import WorkerProcess

NUM_EVENTS = 15_000
MAX_OUTBOX = 200
CHUNK_RECORDS = 500
MOST_GROWTH_BYTES = 48 * 1024 * 1024


class StalledWorker(WorkerProcess):
    """A worker whose producer can be held up."""

    child = "tests.streams.stalled_child"


@pytest.mark.slow
def test_nothing_grows_while_samples_do_not_leave(tansu: Broker, tmp_path: Path) -> None:
    """The outbox, or what waits before it, fills disk and memory while the learner's topic is away."""
    kafka, topics = fresh_topics(tansu)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=4, session_gap_seconds=0.0)
    held_up = tmp_path / "held-up"
    held_up.touch()
    faults = {"while_there": str(held_up), "chunk_records": CHUNK_RECORDS}
    process = StalledWorker(kafka, topics, store, faults=faults, max_outbox=MAX_OUTBOX, watchdog_seconds=5.0)
    try:
        send_events(kafka, topics, make_events(31, NUM_EVENTS, users=400))
        wait_until("it holds records back", partial(_held_back, process, 0.5), 90)
        before, applied = _resident(process), _applied(process)
        assert all(each["outbox"] < MAX_OUTBOX + CHUNK_RECORDS for each in process.state()["partitions"].values())
        send_events(kafka, topics, make_events(32, NUM_EVENTS, users=400))
        # Longer than the watchdog waits.
        wait_until("it goes on holding back", partial(_held_back, process, 7.0), 90)
        assert _applied(process) == applied < NUM_EVENTS
        assert _resident(process) - before < MOST_GROWTH_BYTES
        assert process.get("/live").status_code == 200
        assert process.get("/ready").status_code == 503
        held_up.unlink()
        wait_until("all is applied and sent", lambda: process.settled(2 * NUM_EVENTS), 180)
        assert process.get("/ready").json() == {"ready": True, "missing": None}
        assert process.end() == 0, process.log.read_text()
    finally:
        process.process.kill()
        process.process.wait()


def _held_back(process: WorkerProcess, seconds: float) -> bool:
    counters = process.state().get("counters", {})
    return bool(counters.get("headwater_held_back_seconds_total", 0) > seconds)


def _applied(process: WorkerProcess) -> int:
    return sum(int(each["applied"]) + 1 for each in process.state()["partitions"].values())


def _resident(process: WorkerProcess) -> int:
    pages = int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[1])
    return pages * 4096

"""Requests for a user's sequence, sent to whichever worker."""

import socket
from pathlib import Path

import pytest

from deploy.broker import free_port
from storage.store_settings import StoreSettings
from streams.ownership import FORWARDED, OWNER
from streams.worker_settings import WorkerSettings
from tests.brokers import Broker, fresh_topics, wait_until
from tests.streams.test_worker import ACTIONS, make_events, send_events
from tests.streams.workers import WorkerThread

USERS = [f"user-{number}é" for number in range(40)]


def test_each_of_three_workers_answers_for_all(broker: Broker, tmp_path: Path) -> None:
    """A caller that knows one worker gets the users of a third of the partitions, or requests go round in circles."""
    kafka, topics = fresh_topics(broker, num_partitions=6)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, session_gap_seconds=0)
    send_events(kafka, topics, make_events(21, 300))
    with (
        WorkerThread(kafka, topics, store) as first,
        WorkerThread(kafka, topics, store) as second,
        WorkerThread(kafka, topics, store) as third,
    ):
        workers = (first, second, third)

        def shared() -> bool:
            held = [worker.state().get("partitions", {}) for worker in workers]
            applied = sum(each["applied"] + 1 for partitions in held for each in partitions.values())
            return [len(partitions) for partitions in held] == [2, 2, 2] and applied == 300

        wait_until("each holds two and all is applied", shared, 90)
        owners = set()
        for user_id in USERS:
            answers = [worker.get("/sequence", user_id=user_id, last=5) for worker in workers]
            assert [answer.status_code for answer in answers] == [200, 200, 200]
            assert answers[0].json() == answers[1].json() == answers[2].json()
            (owner,) = {answer.headers.get(OWNER) for answer in answers} - {None}
            owners.add(owner)
            (direct,) = [
                worker.url for worker, answer in zip(workers, answers, strict=True) if OWNER not in answer.headers
            ]
            assert owner == direct
        assert owners == {worker.url for worker in workers}
        again = [first.get("/sequence", {FORWARDED: "1"}, user_id=user_id).status_code for user_id in USERS]
        assert set(again) == {200, 421}


def test_an_owner_that_does_not_answer_is_named(tansu: Broker, tmp_path: Path) -> None:
    """The caller takes the user for one without events, or waits for ever."""
    kafka, topics = fresh_topics(tansu, num_partitions=2)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, session_gap_seconds=0)
    nowhere = f"http://127.0.0.1:{free_port()}"
    with WorkerThread(kafka, topics, store) as first:
        wait_until("first holds both", lambda: first.settled(0, 2))
        with WorkerThread(kafka, topics, store, advertised_url=nowhere) as second:
            wait_until("each holds one", lambda: first.settled(0, 1) and second.settled(0, 1), 90)
            answers = [first.get("/sequence", user_id=user_id) for user_id in USERS]
            assert {answer.status_code for answer in answers} == {200, 503}
            (error,) = {answer.json().get("error") for answer in answers} - {None}
            assert error.startswith(f"worker {nowhere} holds this partition and cannot be asked: ")


def test_what_others_are_told_can_be_reached() -> None:
    """A worker that listens on every address tells its peers to ask their own machine."""
    assert WorkerSettings(web_port=1).url == "http://127.0.0.1:1"
    assert WorkerSettings(web_host="0.0.0.0", web_port=1).url == f"http://{socket.gethostname()}:1"  # noqa: S104 - only text
    assert WorkerSettings(web_host="0.0.0.0", advertised_url="http://w-1:7").url == "http://w-1:7"  # noqa: S104 - as above
    with pytest.raises(ValueError, match="advertised_url must be like http://worker-1:6066, got 'w-1:7'"):
        WorkerSettings(advertised_url="w-1:7")

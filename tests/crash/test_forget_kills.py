"""Workers killed without warning while users ask to be forgotten."""

from pathlib import Path

import pytest

from storage.store_settings import StoreSettings
from tests.brokers import BROKERS, Broker, fresh_topics
from tests.crash.killed_worker import settled_after_kills
from tests.streams.test_worker import ACTIONS, assert_sequences, plain_state
from tests.streams.test_worker_forget import assert_learned, forgetful_events

ROUNDS = 8
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("broker", [BROKERS[1]], indirect=True)
def test_kills_bring_nobody_back_and_forget_nobody_twice(broker: Broker, tmp_path: Path) -> None:
    """What is deleted and the log's offset part when a worker dies between two writes, or the word is lost or late."""
    kafka, topics = fresh_topics(broker)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=2, session_gap_seconds=0)
    events = [event for seed in range(ROUNDS) for event in forgetful_events(seed, 400)]
    process = settled_after_kills(kafka, topics, store, events, instance_id="w1", num_kills=4)
    expected = plain_state(kafka, topics, store)
    assert_sequences(process, expected)
    assert process.end() == 0, process.log.read_text()
    assert_learned(kafka, topics, expected, 13 * ROUNDS)

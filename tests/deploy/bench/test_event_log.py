import json
from collections import Counter

import pytest

from deploy.bench.event_log import ACTIONS, EventLog


@pytest.mark.parametrize("event_ids", [False, True])
def test_the_same_log_has_the_same_records(event_ids: bool) -> None:
    """Rows of one table, and of a run that is resumed, must have read the same events."""
    log = EventLog(name="log", events=70_000, users=50, event_ids=event_ids)
    first = list(log.records())
    assert first == list(log.records())
    key, value = first[-1]
    event = json.loads(value)
    assert key == event["user_id"].encode()
    assert event["action"] in ACTIONS
    assert event.get("event_id") == ("e69999" if event_ids else None)
    assert event["ts_ms"] - json.loads(first[0][1])["ts_ms"] == 69_999 * 37


def test_users_follow_zipf_s_law() -> None:
    """With equal users every peer's state would fit its cache as well as ours."""
    log = EventLog(name="log", events=50_000, users=1_000, event_ids=False)
    counts = Counter(key for key, _ in log.records())
    assert counts[b"u1"] / counts[b"u10"] == pytest.approx(10, rel=0.2)
    assert sum(counts.values()) == 50_000


def test_samples_are_counted_as_a_job_makes_them() -> None:
    """A run that sent too few samples would pass for a fast one."""
    log = EventLog(name="log", events=5_000, users=40, event_ids=False)
    counts = Counter(key for key, _ in log.records())
    assert log.num_samples(20) == sum(count // 20 for count in counts.values())

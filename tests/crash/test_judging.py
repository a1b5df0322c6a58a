from types import SimpleNamespace
from typing import Any

import pytest

from streams.samples import Sample, encode_sample
from tests.crash.pauses import PauseMeter
from tests.crash.verdict import SentSamples
from tests.streams.made_samples import LOG_ID, sample_factory


def test_a_pause_lasts_from_one_applied_offset_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that is told too short, or is over with what a former owner still says."""
    clock = SimpleNamespace(now=10.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("tests.crash.pauses.time", clock)
    meter = PauseMeter(dict)
    for seconds, applied in ((0.0, 5), (0.1, 6), (2.0, 6), (0.5, 4), (0.5, 7), (0.2, 8)):
        clock.now += seconds
        meter._note(3, applied)
    assert meter.take() == {3: pytest.approx(3.0)}
    clock.now += 4.0
    assert meter.take() == {3: pytest.approx(4.0)}


def test_a_sample_that_comes_again_with_another_body_is_found() -> None:
    """A replay that sends something else under the id of what was learned."""
    first = sample_factory(trigger_offset=7)
    sent = SentSamples()
    for _ in range(2):
        sent.take(_record(first, encode_sample(first)))
    assert (sent.repeated, sent.differing) == (1, 0)
    other = sample_factory(trigger_offset=7, num_records=first.num_records + 1)
    sent.take(_record(other, encode_sample(other)))
    assert (sent.repeated, sent.differing) == (2, 1)
    assert sent.ranges.of(first.user_id, LOG_ID)["records"] == first.num_records


def _record(sample: Sample, value: bytes) -> Any:
    headers = [("id", f"{sample.epoch}-{sample.partition}-{sample.trigger_offset}-{sample.n}".encode())]
    return SimpleNamespace(partition=sample.partition, key=sample.user_id.encode(), value=value, headers=headers)

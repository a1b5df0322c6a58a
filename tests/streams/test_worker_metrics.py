import logging

import numpy as np
import pytest

from streams.quiet import RateLimit, limit_aiokafka_logs
from streams.watchdog import Progress
from streams.worker_metrics import WorkerMetrics
from streams.worker_settings import WorkerSettings


def test_latencies_fall_into_their_buckets() -> None:
    metrics = WorkerMetrics()
    assert metrics.event_to_sequence.quantiles() == {"p50": None, "p95": None}
    metrics.event_to_sequence.observe(np.array([0.0005, 0.001, 0.3, 100.0]))
    (family,) = metrics.event_to_sequence.collect()
    counts = {sample.labels.get("le"): sample.value for sample in family.samples}
    assert (counts["0.001"], counts["0.25"], counts["0.3"], counts["60.0"], counts["+Inf"]) == (2, 2, 3, 3, 4)
    quantiles = metrics.event_to_sequence.quantiles()
    assert quantiles["p50"] == pytest.approx(0.1505)


def test_records_of_one_kind_pass_once_per_interval() -> None:
    """Without a broker the log fills the disk."""
    limit = RateLimit(3600)
    record = logging.LogRecord("aiokafka", logging.ERROR, "x.py", 1, "no %s", ("broker",), None)
    other = logging.LogRecord("aiokafka", logging.ERROR, "x.py", 2, "no %s", ("broker",), None)
    assert [limit.filter(record), limit.filter(record), limit.filter(other)] == [True, False, True]
    assert RateLimit(0).filter(record)


def test_each_logger_of_aiokafka_is_limited_once() -> None:
    limit_aiokafka_logs()
    limit_aiokafka_logs()
    logger = logging.getLogger("aiokafka.consumer.fetcher")
    assert sum(isinstance(each, RateLimit) for each in logger.filters) == 1


def test_only_what_waits_and_does_not_move_is_stalled() -> None:
    """A quiet partition ends the worker, or a stuck one never does."""
    progress = Progress(seconds=10)
    assert progress.stalled(0, {0: (5, True), 1: (7, False)}) is None
    assert progress.stalled(9, {0: (6, True), 1: (7, False)}) is None
    assert progress.stalled(18, {0: (6, True), 1: (7, False)}) is None
    assert progress.stalled(19, {1: (7, True)}) is None
    assert progress.stalled(27, {0: (6, True), 1: (7, True)}) is None
    assert progress.stalled(28, {0: (6, True), 1: (7, True)}) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"web_port": 0},
        {"sample_events": 0},
        {"checkpoint_seconds": 0.0},
        {"watchdog_seconds": -1.0},
        {"session_seconds": 3.0},
        {"start": "middle"},
        {"max_outbox": 0},
        {"log_format": "xml"},
    ],
)
def test_worker_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        WorkerSettings(**settings)  # type: ignore[arg-type]  # wrong on purpose

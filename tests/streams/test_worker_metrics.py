import logging
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from storage.sequence_store import SequenceStore
from storage.user_run import Applied
from streams.partition_metrics import PartitionMetrics
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


def test_each_record_of_a_chunk_has_one_result() -> None:
    """The results do not add up to what came, and nobody can tell what was dropped."""
    metrics = WorkerMetrics()
    metrics.count(10, Applied(acted=4, refused=2, duplicates=1, too_late=3), ["not_json", "not_json"], 0.25)
    counts = metrics.counts()
    results = {result: counts[f"headwater_records_total.{result}"] for result in ("applied", "refused", "too_late")}
    assert results == {"applied": 4, "refused": 2, "too_late": 3}
    assert counts["headwater_records_total.duplicate"] == 1
    assert counts["headwater_refused_total.not_json"] == 2
    assert metrics.registry.get_sample_value("headwater_chunk_records_sum") == 10
    assert metrics.registry.get_sample_value("headwater_apply_seconds_sum") == 0.25


def test_a_partition_shows_what_is_known_of_it() -> None:
    """A figure that is not known is a zero, and the alarm stays silent."""
    store = SimpleNamespace(
        partition=7, applied=41, outbox_size=3, num_users=2, num_timers=1, watermark_ms=0, sizes=lambda: {"a": 5}
    )
    stores = {7: cast("SequenceStore", store)}
    registry = CollectorRegistry()
    registry.register(PartitionMetrics(lambda: stores, lambda _: None, lambda _: 12.5))

    def shown(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"partition": "7", **labels})

    assert shown("headwater_partition_applied_offset") == 41
    assert shown("headwater_partition_outbox_items") == 3
    assert shown("headwater_partition_timers") == 1
    assert shown("headwater_partition_checkpoint_age_seconds") == 12.5
    assert shown("headwater_partition_lag_records") is None
    assert shown("headwater_partition_watermark_delay_seconds") is None
    assert shown("headwater_rocksdb_bytes", property="a") == 5
    store.watermark_ms = 1_000
    assert (shown("headwater_partition_watermark_delay_seconds") or 0) > 1_000_000


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


def test_who_was_forgotten_and_what_was_not_sent_for_that_is_counted() -> None:
    """Samples that are missing from the topic would be taken for lost."""
    metrics = WorkerMetrics()
    metrics.count(3, Applied(acted=2, forgotten=1, unsent=4), [], 0.25)
    counts = metrics.counts()
    assert counts["headwater_users_forgotten_total"] == 1
    assert counts["headwater_samples_forgotten_total"] == 4
    assert counts["headwater_records_total.applied"] == 3

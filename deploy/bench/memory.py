"""`headwater bench memory`: what a worker holds in memory over a long run, and whether everything leaves it in the end.

1. A worker applies the events of a topic; its resident memory is read twice a second.
2. A `Tick` behind the last event's session gap is put into each partition: all timers fire, the outbox drains.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy.bench.bench_broker import BenchBroker, bare_environment, bench_broker
from deploy.bench.event_log import EventLog, produce
from deploy.bench.own_workers import OwnWorkers, States, all_done
from deploy.bench.processes import rss_mb
from deploy.bench.streams import CONTEXT, LIMIT_SECONDS, own_store
from deploy.settings import Settings
from streams.events import Tick, encode_event
from streams.worker_settings import WorkerSettings

PAUSE_SECONDS = 0.5
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """What is measured."""

    events: int = 2_000_000
    users: int = 5_000
    partitions: int = 8

    def __post_init__(self) -> None:
        for name in ("events", "users", "partitions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


def run_memory_bench(
    plan: MemoryPlan, kafka_home: Path, folder: Path, environ: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Make the measurement; raises `SetupError`."""
    log = EventLog(name="memory", events=plan.events, users=plan.users, event_ids=True, partitions=plan.partitions)
    with bench_broker(kafka_home, folder) as broker:
        say(f"producing {plan.events:,} events")
        produce(log, broker.kafka)
        settings = Settings(
            kafka=replace(broker.kafka, group="memory"),
            topics=log.topics,
            store=own_store("whole"),
            worker=WorkerSettings(sample_events=CONTEXT),
        )
        say("applying them")
        with OwnWorkers(settings, broker.folder / "run", workers=1, environ=bare_environment(environ)) as workers:
            return _figures(plan, _readings(workers, log, broker)) | _drain(workers, log, broker, say)


def _readings(workers: OwnWorkers, log: EventLog, broker: BenchBroker) -> list[tuple[int, float]]:
    """Pairs of applied events and resident memory in MB."""
    readings: list[tuple[int, float]] = []
    ends = broker.ends(log.topics.events, log.partitions)

    def done(states: States) -> bool:
        applied = sum(int(state["applied"]) + 1 for state in states.values())
        readings.append((applied, rss_mb(workers.pids[0])))
        return all_done(states, ends)

    workers.wait("apply all", done, LIMIT_SECONDS, pause=PAUSE_SECONDS)
    return readings


def _figures(plan: MemoryPlan, readings: list[tuple[int, float]]) -> dict[str, Any]:
    halves = (
        [rss for applied, rss in readings if 0 < applied <= plan.events // 2],
        [rss for applied, rss in readings if applied > plan.events // 2],
    )
    first, second = (max(half, default=0.0) for half in halves)
    return {
        "events": plan.events,
        "peak_mb_first_half": round(first, 1),
        "peak_mb_second_half": round(second, 1),
        "growth": round(second / first - 1, 4) if first else None,
        "mb_by_applied": [(applied, round(rss, 1)) for applied, rss in readings[:: max(1, len(readings) // 40)]],
    }


def _drain(workers: OwnWorkers, log: EventLog, broker: BenchBroker, say: Callable[[str], None]) -> dict[str, Any]:
    say("letting all timers fire")
    tick = Tick(event_id="end", ts_ms=log.ms(log.events) + DAY_MS)
    producer = KafkaProducer(bootstrap_servers=list(broker.kafka.bootstrap_servers))
    for partition in range(log.partitions):
        producer.send(log.topics.events, value=encode_event(tick), partition=partition)
    producer.close()
    ends = broker.ends(log.topics.events, log.partitions)
    workers.wait("drain", lambda states: all_done(states, ends), LIMIT_SECONDS)
    states = workers.partitions().values()
    return {
        "outbox_at_the_end": sum(state["outbox"] for state in states),
        "timers_at_the_end": sum(state["timers"] for state in states),
        "mb_at_the_end": round(rss_mb(workers.pids[0]), 1),
    }

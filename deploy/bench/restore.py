"""`headwater bench restore`: how soon a worker with an empty disk serves a partition again, and catches up.

1. A worker applies a partition's events, stops, and has shipped its checkpoint.
2. More events arrive.
3. A worker with an empty disk starts: it fetches the checkpoint, serves, and replays what came since.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.bench.bench_broker import BenchBroker, bare_environment, bench_broker
from deploy.bench.event_log import EventLog, produce
from deploy.bench.own_workers import FIRST_PAUSE_SECONDS, READY_SECONDS, OwnWorkers, all_done
from deploy.bench.streams import CONTEXT, LIMIT_SECONDS, own_store
from deploy.settings import Settings
from streams.worker_settings import WorkerSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class RestorePlan:
    """What is measured."""

    events: int = 1_000_000
    """Events in the checkpoint."""
    replayed: int = 400_000
    """Events since."""
    users: int = 5_000

    def __post_init__(self) -> None:
        for name in ("events", "replayed", "users"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


def run_restore_bench(
    plan: RestorePlan, kafka_home: Path, folder: Path, environ: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Make the measurement; raises `SetupError`."""
    with bench_broker(kafka_home, folder, join_ms=0) as broker:
        log = EventLog(name="restored", events=plan.events, users=plan.users, event_ids=True, partitions=1)
        settings = Settings(
            kafka=replace(broker.kafka, group="restore"),
            topics=log.topics,
            store=own_store("whole"),
            worker=WorkerSettings(sample_events=CONTEXT, checkpoint_url=str(broker.folder / "shipped")),
        )
        say(f"applying {plan.events:,} events")
        produce(log, broker.kafka)
        with OwnWorkers(settings, broker.folder / "first", workers=1, environ=bare_environment(environ)) as workers:
            workers.run({0: plan.events}, LIMIT_SECONDS)
        say(f"restoring on an empty disk, replaying {plan.replayed:,} events")
        produce(replace(log, events=plan.replayed, first=plan.events, seed=2), broker.kafka)
        return _restore(plan, settings, broker, bare_environment(environ))


def _restore(plan: RestorePlan, settings: Settings, broker: BenchBroker, environ: Mapping[str, str]) -> dict[str, Any]:
    started = time.monotonic()
    end = plan.events + plan.replayed
    with OwnWorkers(settings, broker.folder / "second", workers=1, environ=environ) as workers:
        workers.wait("answer", lambda _: workers.answers(), READY_SECONDS, pause=FIRST_PAUSE_SECONDS)
        answering = time.monotonic()
        workers.wait("hold the partition", lambda states: 0 in states, READY_SECONDS, pause=FIRST_PAUSE_SECONDS)
        serving, restored = time.monotonic(), int(workers.partitions()[0]["applied"])
        workers.wait("catch up", lambda states: states[0]["applied"] + 1 >= end, LIMIT_SECONDS)
        applied = time.monotonic()
        workers.wait("send all samples", lambda states: all_done(states, {0: end}), LIMIT_SECONDS)
    return {
        "events_in_checkpoint": plan.events,
        "applied_when_it_serves": restored,
        "start_to_answering_seconds": round(answering - started, 2),
        "answering_to_serving_seconds": round(serving - answering, 2),
        "start_to_serving_seconds": round(serving - started, 2),
        "replayed_events": end - 1 - restored,
        "replayed_events_per_second": round((end - 1 - restored) / (applied - serving), 1),
        "state_bytes": _size(broker.folder / "second" / "worker-0" / "state" / "p0"),
    }


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

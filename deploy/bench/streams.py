"""`headwater bench streams`: the stream worker and its peers, one table, one broker, the same events.

The clock of every row starts with the first event that the job takes in, after processes, group and stores are up,
and ends when the job is done with the last: decoded; in the table; committed with its changelog; or, for Headwater,
applied by every partition with an empty outbox, so that all samples and dead letters are in their topics.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deploy.bench.bench_broker import BenchBroker, bare_environment, bench_broker
from deploy.bench.event_log import ACTIONS, EventLog, produce
from deploy.bench.own_workers import OwnWorkers
from deploy.bench.peers import NotRunError, Peers
from deploy.bench.processes import Measured
from deploy.bench.rows import Job, Planned, Results, Row
from deploy.bench.store_check import check_stores
from deploy.bench.streams_plan import StreamsPlan
from deploy.settings import Settings
from storage.errors import SetupError
from storage.store_settings import StoreSettings
from streams.topics import TopicSettings, create_topics
from streams.worker_settings import WorkerSettings

CAP = 1_000
"""Events kept of a user."""
CONTEXT = 128
"""Events in a sample."""
APPEND_EVERY = 20
"""Actions of a user by sample, in the append job."""
WHOLE_EVERY = 16
"""The same in the whole job."""
LIMIT_SECONDS = 1_800.0
"""How long one run may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where things are."""

    kafka_home: Path
    streams_peer: Path | None
    """Folder with the Kafka Streams job."""
    folder: Path
    """Under it runs keep their things while they last, and environments of peers for good."""
    environ: Mapping[str, str]
    """Environment of all processes; settings of ours are taken out."""


def run_streams_bench(
    plan: StreamsPlan, places: Places, file: Path | None, *, verify: bool, say: Callable[[str], None]
) -> Results:
    """Make all runs that `file` does not hold yet, writing each row to it; raises `SetupError`.

    `verify` holds the whole job's stores against a plain fold of the log.
    """
    results = Results.resume(file, asdict(plan))
    missing = [planned for planned in plan.runs() if not results.holds(planned)]
    if not missing:
        return results
    with bench_broker(places.kafka_home, places.folder) as broker:
        runner = Runner(places, broker, verify=verify, say=say)
        for number, planned in enumerate(missing, 1):
            say(f"{number}/{len(missing)} {planned.name}, round {planned.round}")
            row = runner.run(planned)
            rate = "" if row.events_per_second is None else f"{row.events_per_second:,.0f} events/s "
            say(f"  {rate}{row.note}".rstrip())
            results.add(row)
    return results


class Runner:
    """Makes one run after the other on one broker."""

    def __init__(self, places: Places, broker: BenchBroker, *, verify: bool, say: Callable[[str], None]) -> None:
        self._broker = broker
        self._folder = broker.folder
        self._verify = verify
        self._say = say
        self._environ = bare_environment(places.environ)
        self._peers = Peers(
            address=broker.kafka.bootstrap_servers[0],
            folder=broker.folder,
            cache=places.folder,
            streams_peer=places.streams_peer,
            kafka_home=places.kafka_home,
            environ=self._environ,
        )
        self._log: EventLog | None = None
        self._number = 0
        self._has_ticks = False

    def run(self, planned: Planned) -> Row:
        """Make one run; where a peer cannot be run here, its row says why."""
        self._number += 1
        self._provide(planned.log)
        try:
            row = self._own(planned) if planned.system == "headwater" else self._peer(planned)
        except NotRunError as error:
            return Row.of(planned, note=f"not run: {error}")
        shutil.rmtree(self._folder / self._name, ignore_errors=True)
        return row

    @property
    def _name(self) -> str:
        return f"run-{self._number}"

    def _provide(self, log: EventLog) -> None:
        if log != self._log:
            if self._log is not None:
                self._broker.delete(self._log.topics.names)
            self._say(f"  producing {log.events:,} events of {log.users:,} users")
            produce(log, self._broker.kafka)
            self._log = log
        elif self._has_ticks:
            self._broker.delete(log.topics.names)
            produce(log, self._broker.kafka)
        elif self._number > 1:
            self._broker.delete((log.topics.samples, log.topics.dead_letters))
            create_topics(self._broker.kafka, log.topics)
        self._has_ticks = False

    def _own(self, planned: Planned) -> Row:
        topics = planned.log.topics
        settings = Settings(
            kafka=replace(self._broker.kafka, group=self._name),
            topics=topics,
            store=own_store(planned.job),
            worker=WorkerSettings(sample_events=CONTEXT),
        )
        ends = self._broker.ends(topics.events, topics.num_partitions)
        folder = self._folder / self._name
        before = self._broker.cpu_seconds
        with OwnWorkers(settings, folder, workers=planned.workers, environ=self._environ) as workers:
            run = workers.run(ends, LIMIT_SECONDS)
            broker_cpu = self._broker.cpu_seconds - before
        # Workers of the whole job append ticks to partitions whose end they have reached, which no peer can read.
        self._has_ticks = planned.job == "whole"
        folders = [each / "state" for each in workers.folders]
        return Row.of(
            planned,
            **_figures(planned, run, broker_cpu),
            samples=self._samples(topics),
            note=self._check(planned, settings.store, folders),
        )

    def _peer(self, planned: Planned) -> Row:
        before = self._broker.cpu_seconds
        run = self._peers.run(planned, self._name)
        figures = _figures(planned, run, self._broker.cpu_seconds - before)
        return Row.of(planned, **figures, samples=self._samples(planned.log.topics))

    def _check(self, planned: Planned, store: StoreSettings, folders: list[Path]) -> str:
        topics = planned.log.topics
        if planned.job == "append":
            expected, found = planned.log.num_samples(store.sample_every), self._samples(topics)
            if found != expected:
                raise SetupError(f"{found} samples were sent, {expected} are due: the run is wrong")
            return ""
        if not self._verify:
            return "not verified"
        report = check_stores(self._broker.kafka, topics, store, folders)
        findings = ", ".join(f"{count} {name}" for name, count in report.findings.items() if count)
        return f"verified: {findings or 'all findings 0'}"

    def _samples(self, topics: TopicSettings) -> int:
        return sum(self._broker.ends(topics.samples, topics.num_partitions).values())


def own_store(job: Job, folder: Path = Path("state")) -> StoreSettings:
    """Settings of Headwater's stores in these benchmarks; the append job has no timers, as its peers have none."""
    whole = StoreSettings(folder=folder, actions=ACTIONS, cap=CAP, sample_every=WHOLE_EVERY)
    return whole if job == "whole" else replace(whole, sample_every=APPEND_EVERY, session_gap_seconds=0.0)


def _figures(planned: Planned, run: Measured, broker_cpu: float) -> dict[str, Any]:
    return {
        "seconds": round(run.seconds, 3),
        "events_per_second": round(planned.events / run.seconds, 1),
        "job_cpu_seconds": round(run.cpu_seconds, 2),
        "broker_cpu_seconds": round(broker_cpu, 2),
        "events_per_cpu_second": round(planned.events / run.cpu_seconds, 1),
        "peak_rss_mb": round(run.peak_rss_mb, 1),
    }

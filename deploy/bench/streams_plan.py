"""Which runs `headwater bench streams` makes: systems, jobs, logs, rounds."""

from collections.abc import Iterator
from dataclasses import dataclass

from deploy.bench.event_log import EventLog
from deploy.bench.rows import Job, Planned, System

SYSTEMS: tuple[System, ...] = ("faust-table", "quixstreams", "kafka-streams", "aiokafka", "headwater")


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamsPlan:
    """What is measured."""

    events: int = 1_000_000
    """Events of the log that all systems read."""
    faust_events: int = 30_000
    """Of these, how many the Faust table takes in."""
    quix_events: int = 200_000
    """Of these, how many quixstreams takes in."""
    peer_events: int = 4_000_000
    """Events of the logs on which the append job is held against Kafka Streams; 0: none."""
    users: int = 5_000
    many_users: int = 500_000
    """Users of the second of those logs."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of Headwater's worker processes."""
    peer_threads: int = 2
    """Threads of Kafka Streams, and Headwater's worker processes beside it."""
    partitions: int = 8
    rounds: int = 1
    """How often every run of the first log is made."""
    peer_rounds: int = 3
    """How often every run beside Kafka Streams is made, in turn with it."""
    only: tuple[str, ...] = SYSTEMS
    """Systems to run."""

    def __post_init__(self) -> None:
        for name in ("events", "faust_events", "quix_events", "users", "many_users", "peer_threads", "partitions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("peer_events", "rounds", "peer_rounds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not self.workers or min(self.workers) < 1:
            raise ValueError(f"workers must be numbers >= 1, got {self.workers}")
        if self.peer_events == self.events:
            raise ValueError(
                f"peer_events must differ from events, or the two logs' rows look alike, got {self.events}"
            )
        unknown = sorted(set(self.only) - set(SYSTEMS))
        if unknown:
            raise ValueError(f"only must name systems of {', '.join(SYSTEMS)}, got {', '.join(unknown)}")

    def runs(self) -> Iterator[Planned]:
        """All runs; those to be compared come one after the other."""
        for run in (*self._first_log(), *self._beside_streams()):
            if run.system in self.only:
                yield run

    def _first_log(self) -> Iterator[Planned]:
        log = EventLog(name="shared", events=self.events, users=self.users, event_ids=True, partitions=self.partitions)
        own: list[tuple[System, Job, int, int]] = [
            ("headwater", job, workers, self.events) for job in _JOBS for workers in self.workers
        ]
        peers: list[tuple[System, Job, int, int]] = [
            ("faust-table", "append", 1, self.faust_events),
            ("quixstreams", "append", 1, self.quix_events),
            ("kafka-streams", "append", self.peer_threads, self.events),
            ("aiokafka", "decode", 1, self.events),
        ]
        for number in range(1, self.rounds + 1):
            for system, job, workers, events in (*peers, *own):
                taken = min(events, self.events)
                yield Planned(system=system, job=job, workers=workers, log=log, events=taken, round=number)

    def _beside_streams(self) -> Iterator[Planned]:
        if self.peer_events == 0:
            return
        systems: tuple[System, ...] = ("kafka-streams", "headwater")
        for users in (self.users, self.many_users):
            log = EventLog(
                name=f"users-{users}",
                events=self.peer_events,
                users=users,
                event_ids=False,
                partitions=self.partitions,
            )
            for number in range(1, self.peer_rounds + 1):
                for system in systems:
                    yield Planned(
                        system=system,
                        job="append",
                        workers=self.peer_threads,
                        log=log,
                        events=self.peer_events,
                        round=number,
                    )


_JOBS: tuple[Job, ...] = ("append", "whole")

"""Ingresses for tests: processes that can be killed, and the topics of others that they read."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

from deploy.broker import free_port
from streams.figures import Scrape, scrape
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings, admin_client


def with_sources(kafka: KafkaSettings, topics: TopicSettings, *, num_partitions: int = 3) -> TopicSettings:
    """The settings with topics of impressions and of actions, which are made."""
    settings = dataclasses.replace(
        topics, impressions=f"{topics.prefix}their-impressions", actions=f"{topics.prefix}their-actions"
    )
    options = {"num_partitions": num_partitions, "replication_factor": 1}
    with admin_client(kafka) as admin:
        admin.create_topics(dict.fromkeys(settings.sources, options))
        admin.wait_for_topics(list(settings.sources))
    return settings


class IngressProcess:
    """`headwater ingress` as a process; leaving the context ends it where it still runs."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings, log: Path, actions: tuple[str, ...]) -> None:
        self.port = free_port()
        self.log = log
        settings = {
            "kafka.bootstrap-servers": kafka.bootstrap_servers[0],
            "kafka.group": kafka.group,
            "topics.prefix": topics.prefix,
            "topics.impressions": topics.impressions,
            "topics.actions": topics.actions,
            "ingress.metrics-port": str(self.port),
        }
        flags = [flag for name, value in settings.items() if value for flag in (f"--{name}", value)]
        flags += [flag for action in actions for flag in ("--store.actions", action)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli", "ingress", *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
            )

    def __enter__(self) -> "IngressProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def figures(self) -> Scrape:
        """Its metrics; empty while it does not answer."""
        return scrape(f"http://127.0.0.1:{self.port}/metrics")

    def num_taken(self) -> int:
        """Records forwarded or refused since it started; fails where it has ended."""
        assert self.process.poll() is None, self.log.read_text()
        figures = self.figures()
        return int(figures.value("headwater_forwarded_total") + figures.value("headwater_refused_total"))

    def kill(self) -> None:
        """End it at once, without a chance to do anything."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


def has_taken(process: IngressProcess, num_records: int) -> bool:
    """Whether it has forwarded or refused so many records since it started."""
    return process.num_taken() >= num_records

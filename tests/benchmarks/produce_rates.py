"""Events a second into Apache Kafka: `EventProducer`, `send_many`, and `headwater ingress` from a topic of others.

    KAFKA_HOME=... python -m tests.benchmarks.produce_rates [--events 300000]

One after the other in one run, on a broker that is started here; clients and broker share the machine.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from streams.bulk import send_many
from streams.events import Action, Encoding
from streams.kafka_settings import KafkaSettings
from streams.producer import EventProducer
from streams.topics import TopicSettings
from tests.brokers import fresh_topics, new_broker
from tests.streams.ingresses import IngressProcess, with_sources

NUM_USERS = 5_000
ACTIONS = ("click",)
Row = tuple[str, float, float]
"""What sent, events a second, CPU microseconds of its process an event."""


def made_actions(count: int) -> list[Action]:
    """Actions of 88 bytes as JSON, users in no order."""
    return [
        Action(user_id=f"u{n * 7919 % NUM_USERS}", item_id=f"i{n * 31 % 1_000}", action="click", ts_ms=10**12 + n)
        for n in range(count)
    ]


def timed(name: str, count: int, work: Callable[[], object]) -> Row:
    """Run it and say how fast it was."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return name, count / (time.perf_counter() - began), (time.process_time() - cpu) / count * 1e6


def one_by_one(kafka: KafkaSettings, topic: str, events: list[Action]) -> None:
    """Send with `EventProducer` and wait for all."""
    with EventProducer(kafka.bootstrap_servers, topic=topic) as producer:
        for event in events:
            producer.send(event)


def ingress_row(kafka: KafkaSettings, topics: TopicSettings, count: int, folder: Path) -> Row:
    """Forward what is in `topics.actions`, timed from the first chunk that is counted."""
    first, began, cpu = 0, 0.0, 0.0
    with IngressProcess(kafka, topics, folder / "ingress.log", ACTIONS) as process:
        while (taken := process.num_taken()) < count:
            if taken and not first:
                first, began, cpu = taken, time.perf_counter(), cpu_seconds(process.process.pid)
            time.sleep(0.1)
        num, seconds = count - first, time.perf_counter() - began
        return "headwater ingress, one process", num / seconds, (cpu_seconds(process.process.pid) - cpu) / num * 1e6


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processors so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(kafka: KafkaSettings, topics: TopicSettings, count: int, folder: Path) -> list[Row]:
    """All rows."""
    events = made_actions(count)
    rows = [
        timed(
            "EventProducer (kafka-python)", count // 5, partial(one_by_one, kafka, topics.events, events[: count // 5])
        )
    ]
    encodings: tuple[Encoding, ...] = ("json", "msgpack")
    for encoding in encodings:
        for _ in range(2):
            work = partial(send_many, kafka, topics.events, events, encoding=encoding)
            rows.append(timed(f"send_many, {encoding}", count, work))
    send_many(kafka, topics.actions, events)
    rows.append(ingress_row(kafka, topics, count, folder))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    count = parser.parse_args().events
    with tempfile.TemporaryDirectory() as name:
        broker = new_broker("kafka", Path(name) / "kafka")
        broker.start()
        try:
            kafka, topics = fresh_topics(broker, num_partitions=8)
            rows = measured(kafka, with_sources(kafka, topics, num_partitions=8), count, Path(name))
        finally:
            broker.stop()
    print(f"{'':32} {'events/s':>10} {'ratio':>6} {'CPU us/event':>13}")
    for label, rate, cpu in rows:
        print(f"{label:32} {rate:10,.0f} {rate / rows[0][1]:6.1f} {cpu:13.1f}")


if __name__ == "__main__":
    main()

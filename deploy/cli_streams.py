"""Verbs of what flows: broker, topics, worker, replay, verify, dlq, forget, schema."""

import json as json_module
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

from cyclopts import Parameter
from msgspec import structs
from rich.console import Console

from deploy.cli_app import (
    Columns,
    Data,
    Folder,
    Items,
    JsonFile,
    app,
    dlq_app,
    forget_app,
    log_to_stderr,
    pairs,
    say,
    topics_app,
)
from deploy.json_file import write_json
from deploy.serve_settings import ServeSettings
from storage.snapshot_settings import SnapshotSettings
from storage.store_settings import StoreSettings
from streams.ingress_settings import IngressSettings
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings
from streams.worker_settings import WorkerSettings


@app.command
def broker(
    *,
    port: int = 9092,
    log: Path = Path(".headwater/broker.log"),
    kafka_home: Annotated[Path | None, Parameter(help="An unpacked Apache Kafka 4.", env_var="KAFKA_HOME")] = None,
    folder: Annotated[Path, Parameter(help="Where Apache Kafka keeps its records.")] = Path(".headwater/kafka"),
) -> int:
    """Run a Kafka broker on this machine in the foreground.

    With KAFKA_HOME that Apache Kafka, which needs Java and keeps its records; else the embedded broker, whose records
    live in memory and are gone when it stops.
    """
    from deploy.broker import ApacheKafka, EmbeddedBroker, run_broker

    if kafka_home is None:
        return run_broker(EmbeddedBroker(port, log), "in memory")
    return run_broker(ApacheKafka(kafka_home, folder, port, log=log), f"records in {folder}")


@topics_app.command(name="create")
def topics_create(
    *,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
) -> int:
    """Create the topics that do not exist yet."""
    from streams.topics import create_topics

    created = create_topics(kafka, topics)
    say(f"created {', '.join(created)}" if created else "all topics exist")
    return 0


@app.command
def worker(
    *,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
    store: StoreSettings = StoreSettings(),  # noqa: B008 - frozen
    worker: WorkerSettings = WorkerSettings(),  # noqa: B008 - frozen
) -> int:
    """Keep users' sequences: consume events, fold them into RocksDB, emit training samples."""
    from streams.garbage import collect_rarely

    collect_rarely()  # what is loaded from here on is no garbage: a quarter of a second of each start
    from streams.worker import run_worker

    log_to_stderr(worker.log_format)
    return run_worker(kafka, topics, store, worker)


@app.command
def ingress(
    *,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
    store: StoreSettings = StoreSettings(),  # noqa: B008 - frozen
    ingress: IngressSettings = IngressSettings(),  # noqa: B008 - frozen
) -> int:
    """Forward impressions and actions from topics of others into `events`: validated, keyed by user, each once."""
    from streams.ingress import run_ingress

    log_to_stderr()
    return run_ingress(kafka, topics, store.actions, ingress)


@app.command
def replay(
    *,
    data: Data = "ml-100k",
    columns: Columns = "",
    items: Items = None,
    limit: Annotated[int | None, Parameter(help="Send only so many rows.")] = None,
    rate: Annotated[float | None, Parameter(help="Rows a second; without it, what the learner keeps up with.")] = None,
    learner_url: Annotated[
        str, Parameter(help="The learner's metrics, for the pace.")
    ] = "http://127.0.0.1:6067/metrics",
    broken: Annotated[int, Parameter(help="Slip in so many broken records.")] = 0,
    progress: Annotated[Path | None, Parameter(help="Keep this JSON file up to date.")] = None,
    cache: Path = Path(".headwater/cache"),
    data_folder: Folder = None,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
) -> int:
    """Send a data set as live events, in time order."""
    from streams.datasets import load_dataset
    from streams.replay_process import run_replay

    log_to_stderr()
    dataset = load_dataset(data, cache=cache, folder=data_folder, columns=pairs(columns), items=items, say=say)
    return run_replay(
        dataset.head(limit), kafka, topics, rate=rate, learner_url=learner_url, broken=broken, progress=progress
    )


@app.command(name="import")
def import_(
    *,
    data: Data = "ml-100k",
    columns: Columns = "",
    items: Items = None,
    limit: Annotated[int | None, Parameter(help="Send only so many rows.")] = None,
    encoding: Annotated[Literal["json", "msgpack"], Parameter(help="How events are written.")] = "json",
    cache: Path = Path(".headwater/cache"),
    data_folder: Folder = None,
    json: JsonFile = None,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
) -> int:
    """Send a data set as events, in time order, as fast as the brokers take it; twice is as good as once."""
    from streams.datasets import load_dataset
    from streams.importing import import_dataset

    log_to_stderr()
    dataset = load_dataset(data, cache=cache, folder=data_folder, columns=pairs(columns), items=items, say=say)
    began = perf_counter()
    counts = import_dataset(dataset.head(limit), kafka, topics, encoding)
    seconds = perf_counter() - began
    write_json(json, {**structs.asdict(counts), "seconds": round(seconds, 3)})
    say(f"{counts.delivered} events delivered in {seconds:.1f} s, {counts.delivered / seconds:,.0f} a second")
    return 0


@app.command
def verify(
    *,
    json: JsonFile = None,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
    store: StoreSettings = StoreSettings(),  # noqa: B008 - frozen
    serve: ServeSettings = ServeSettings(),  # noqa: B008 - frozen
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Read the log with a plain consumer and hold every sequence and every learned range against it.

    Exit code 0 where all is exact, 1 where anything was found.
    """
    from deploy.verify import verify_all

    report = verify_all(kafka, topics, store, serve.worker_urls, snapshots, serve.worker_access)
    figures = asdict(report)
    write_json(json, figures)
    for name, value in figures.items():
        say(f"{name:24} {value}")
    return 0 if report.is_exact else 1


@dlq_app.command(name="ls")
def dlq_ls(
    *,
    limit: Annotated[int, Parameter(help="Most records to show.")] = 100,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
) -> int:
    """List the refused records: where they were, how large, and why."""
    from deploy.pages import dead_letter_table
    from streams.dead_letters import list_dead_letters

    Console().print(dead_letter_table(list_dead_letters(kafka, topics, limit)))
    return 0


@dlq_app.command(name="replay")
def dlq_replay(
    *,
    cause: Annotated[tuple[str, ...], Parameter(help="Only those refused for this; may be repeated.")] = (),
    topic: Annotated[str | None, Parameter(help="Only those of this topic.")] = None,
    partition: Annotated[int | None, Parameter(help="Only those of this partition.")] = None,
    offset: Annotated[int | None, Parameter(help="Only the one of this offset; needs --partition.")] = None,
    limit: Annotated[int | None, Parameter(help="At most so many.")] = None,
    dry_run: Annotated[bool, Parameter(negative="", help="Say what would be sent, and send nothing.")] = False,
    json: JsonFile = None,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
    store: StoreSettings = StoreSettings(),  # noqa: B008 - frozen
) -> int:
    """Send refused records again, keyed by user, once what made them invalid is mended; twice is as good as once.

    Exit code 0 where all that were chosen can be sent, 1 where any cannot.
    """
    from deploy.pages import replayed_table
    from streams.dead_letter_replay import LetterFilter, replay_dead_letters

    chosen = LetterFilter(causes=cause, topic=topic, partition=partition, offset=offset, limit=limit)
    replayed = replay_dead_letters(kafka, topics, store.actions, chosen, dry_run=dry_run)
    write_json(json, [structs.asdict(letter) for letter in replayed])
    Console().print(replayed_table(replayed, dry_run=dry_run))
    return 0 if all(letter.result == "sent" for letter in replayed) else 1


@forget_app.command(name="user")
def forget_user_(
    user: str,
    *,
    json: JsonFile = None,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
    store: StoreSettings = StoreSettings(),  # noqa: B008 - frozen
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Have workers and learner forget what came of a user so far, and say what remains.

    What comes of the user from here on begins a new sequence.
    """
    from deploy.forget import forget_user, what_remains

    delivery = forget_user(kafka, topics, user)
    remains = what_remains(topics, store, snapshots)
    write_json(json, {"user_id": user, "topic": topics.events, **structs.asdict(delivery), "remains": remains})
    say(f"the request stands at offset {delivery.offset} of {topics.events}-{delivery.partition}")
    say("done as it is applied: the worker deletes what its store holds of the user, then the learner what it replays")
    _say_remains(remains)
    return 0


def _say_remains(remains: dict[str, str]) -> None:
    say("what remains:")
    for place, what in remains.items():
        say(f"  {place:20} {what}")


@forget_app.command(name="item")
def forget_item_(
    item: str,
    *,
    json: JsonFile = None,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Take an item out of every answer, have the learner forget it, and say what remains.

    Nothing is learned of it again unless the catalogue describes it anew.
    """
    from deploy.forget import forget_item, what_remains_of_item

    delivery = forget_item(kafka, topics, item)
    remains = what_remains_of_item(topics, snapshots)
    write_json(json, {"item_id": item, "topic": topics.items, **structs.asdict(delivery), "remains": remains})
    say(f"the request stands at offset {delivery.offset} of {topics.items}-{delivery.partition}")
    say("done as it is read: servers leave the item out at once, the learner drops its row, counts and words")
    _say_remains(remains)
    return 0


@app.command
def schema(
    *,
    format: Annotated[  # noqa: A002 - the flag's name
        Literal["json-schema", "asyncapi"], Parameter(help="The events alone, or all topics and their messages.")
    ] = "json-schema",
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
) -> int:
    """Print what travels: the events as JSON Schema, or all topics as an AsyncAPI document."""
    from streams.schema import asyncapi_document, event_schema

    document = asyncapi_document(topics, version("headwater")) if format == "asyncapi" else event_schema()
    print(json_module.dumps(document, indent=2))  # noqa: T201 - the command's output
    return 0

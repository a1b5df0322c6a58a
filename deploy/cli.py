"""The command `headwater`: what each verb is called and which settings it takes; the work is done elsewhere."""

import json as json_module
import logging
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from deploy.json_file import write_json
from deploy.serve_settings import ServeSettings
from deploy.settings import LayeredConfig, environment, read_layers
from model.settings import LearnSettings, ModelSettings
from storage.errors import HeadwaterError
from storage.snapshot_settings import SnapshotSettings
from storage.store_settings import StoreSettings
from streams.kafka_settings import KafkaSettings
from streams.learner_settings import LearnerSettings
from streams.topics import TopicSettings
from streams.worker_settings import WorkerSettings

app = App(
    name="headwater",
    help="A recommender that learns from the stream it serves. Start with: headwater demo",
    version=version("headwater"),
    help_epilogue=(
        "Settings come from headwater.toml (or --config FILE), overlaid by HEADWATER_* variables, overlaid by flags: "
        "[kafka] group = 'x' is HEADWATER_KAFKA_GROUP=x is --kafka.group x."
    ),
)
topics_app = App(name="topics", help="Create the Kafka topics.")
dlq_app = App(name="dlq", help="Look at the records that were refused.")
evaluate_app = App(name="evaluate", help="Measure quality on a data set.")
for group in (topics_app, dlq_app, evaluate_app):
    app.command(group)

Server = Annotated[str, Parameter(help="Address of `headwater serve`; without it, that of the settings.")]
JsonFile = Annotated[Path | None, Parameter(help="Write the figures to this file as JSON.")]
Data = Annotated[
    str, Parameter(help="Name of a data set (ml-100k; those under HEADWATER_DATA) or a Parquet or CSV file.")
]
Columns = Annotated[str, Parameter(help="Where a file calls its columns otherwise: user_id=uid,ts_ms=time.")]
Items = Annotated[Path | None, Parameter(help="File with item_id, title and optionally categories.")]
Folder = Annotated[
    Path | None, Parameter(name="--data-folder", help="Folder of named data sets.", env_var="HEADWATER_DATA")
]


@app.command
def demo(
    *,
    data: Data = "ml-100k",
    columns: Columns = "",
    items: Items = None,
    limit: Annotated[int | None, Parameter(help="Replay only so many rows.")] = None,
    forever: Annotated[bool, Parameter(negative="", help="Keep everything up after the replay.")] = False,
    folder: Annotated[Path, Parameter(help="Where runs and the data cache are kept.")] = Path(".headwater"),
    json: JsonFile = None,
    data_folder: Folder = None,
    model: ModelSettings = ModelSettings(),  # noqa: B008 - frozen
    learn: LearnSettings = LearnSettings(),  # noqa: B008 - frozen
) -> int:
    """Replay a data set as live events through the whole system and watch it learn.

    Starts a broker, a worker, a learner and a server on this machine, sends real ratings in the order in which they
    were made, shows how well they were foreseen, likes three films for a user, and verifies every record at the end.
    """
    from deploy.demo import DemoOptions, run_demo

    options = DemoOptions(
        data=data,
        columns=_pairs(columns),
        items=items,
        limit=limit,
        forever=forever,
        folder=folder,
        json=json,
        data_folder=data_folder,
    )
    return run_demo(options, model=model, learn=learn)


@app.command
def broker(*, port: int = 9092, log: Path = Path(".headwater/broker.log")) -> int:
    """Run the embedded Kafka broker in the foreground; its records live in memory and are gone when it stops."""
    from deploy.broker import run_broker

    return run_broker(port, log)


@topics_app.command(name="create")
def topics_create(
    *,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
) -> int:
    """Create the topics that do not exist yet."""
    from streams.topics import create_topics

    created = create_topics(kafka, topics)
    _say(f"created {', '.join(created)}" if created else "all topics exist")
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
    from streams.worker import run_worker

    _log_to_stderr()
    return run_worker(kafka, topics, store, worker)


@app.command
def learn(
    *,
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
    model: ModelSettings = ModelSettings(),  # noqa: B008 - frozen
    learn: LearnSettings = LearnSettings(),  # noqa: B008 - frozen
    learner: LearnerSettings = LearnerSettings(),  # noqa: B008 - frozen
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Learn from samples without stopping, and publish snapshots."""
    from streams.learner_process import run_learner

    _log_to_stderr()
    return run_learner(kafka, topics, model, learn, learner, snapshots)


@app.command
def serve(
    *,
    serve: ServeSettings = ServeSettings(),  # noqa: B008 - frozen
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Answer /recommend and /rank from the newest snapshot and the users' live sequences."""
    from deploy.server import run_server

    _log_to_stderr()
    return run_server(serve, kafka, topics, snapshots)


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

    _log_to_stderr()
    dataset = load_dataset(data, cache=cache, folder=data_folder, columns=_pairs(columns), items=items, say=_say)
    return run_replay(
        dataset.head(limit), kafka, topics, rate=rate, learner_url=learner_url, broken=broken, progress=progress
    )


@app.command
def recommend(
    user: str,
    *,
    k: int = 10,
    server: Server = "",
    serve: ServeSettings = ServeSettings(),  # noqa: B008 - frozen
) -> int:
    """Show what the server recommends to a user."""
    from deploy.client import ServerClient
    from deploy.pages import recommendation_table

    Console().print(recommendation_table(ServerClient(server or serve.url).recommend(user, k)))
    return 0


@app.command
def click(
    user: str,
    item: str,
    *,
    action: str = "like",
    value: float | None = None,
    server: Server = "",
    serve: ServeSettings = ServeSettings(),  # noqa: B008 - frozen
    kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
    topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
) -> int:
    """Send an action of a user on an item, and wait until the user's sequence holds it."""
    from deploy.client import ServerClient, send_action

    client = ServerClient(server or serve.url)
    sequence = send_action(client, kafka, topics, user, item, action, value)
    title = next((event["title"] for event in sequence["events"] if event["item_id"] == item), "")
    _say(f"user {user}: {action} {item} {title}".rstrip() + "; the sequence holds it. Now: headwater recommend " + user)
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

    report = verify_all(kafka, topics, store, serve.worker_urls, snapshots)
    figures = asdict(report)
    write_json(json, figures)
    for name, value in figures.items():
        _say(f"{name:24} {value}")
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


@app.command
def schema() -> int:
    """Print the JSON Schema of the events."""
    from streams.events import event_schema

    print(json_module.dumps(event_schema(), indent=2))  # noqa: T201 - the command's output
    return 0


@evaluate_app.command
def prequential(
    *,
    data: Data = "ml-100k",
    columns: Columns = "",
    freeze_after: Annotated[float | None, Parameter(help="Stop learning after this share of the events.")] = None,
    ranks: Annotated[Path | None, Parameter(help="Write event, user_id, item_id, rank to this Parquet file.")] = None,
    json: JsonFile = None,
    limit: Annotated[int | None, Parameter(help="Take only so many rows.")] = None,
    cache: Path = Path(".headwater/cache"),
    data_folder: Folder = None,
    model: ModelSettings = ModelSettings(),  # noqa: B008 - frozen
    learn: LearnSettings = LearnSettings(),  # noqa: B008 - frozen
) -> int:
    """Score each event before it is learned, over a whole data set in time order, without Kafka."""
    from deploy.evaluate import evaluate_prequential
    from streams.datasets import load_dataset

    dataset = load_dataset(data, cache=cache, folder=data_folder, columns=_pairs(columns), say=_say).head(limit)
    figures = evaluate_prequential(dataset, model, learn, freeze_after=freeze_after, ranks=ranks)
    write_json(json, figures)
    return 0


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(help="Settings file (TOML).", env_var="HEADWATER_CONFIG")] = None,
) -> Any:
    """A recommender that learns from the stream it serves."""
    app.config = (LayeredConfig(read_layers(config, environment())),)
    return app(tokens, exit_on_error=False, result_action="return_value")


def main() -> None:
    """Run a command; wrong input and set-ups that cannot work end with one line and exit code 2."""
    try:
        code = app.meta(exit_on_error=False, result_action="return_value")
    except KeyboardInterrupt:
        sys.exit(130)
    except CycloptsError:
        sys.exit(2)
    except (ValueError, HeadwaterError) as error:
        Console(stderr=True).print(f"headwater: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise ValueError(f"columns must be name=column,..., got {text!r}")
    return {name: column for name, _, column in pairs}


def _say(line: str) -> None:
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("deploy", "model", "storage", "streams", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)


if __name__ == "__main__":
    main()

"""Verbs of what learns and answers: demo, learn, serve, recommend, click."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from deploy.cli_app import (
    Columns,
    Data,
    Folder,
    Items,
    JsonFile,
    Server,
    app,
    log_to_stderr,
    pairs,
    say,
)
from deploy.serve_settings import ServeSettings
from model.settings import LearnSettings, ModelSettings
from storage.snapshot_settings import SnapshotSettings
from streams.kafka_settings import KafkaSettings
from streams.learner_settings import LearnerSettings
from streams.topics import TopicSettings


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
        columns=pairs(columns),
        items=items,
        limit=limit,
        forever=forever,
        folder=folder,
        json=json,
        data_folder=data_folder,
    )
    return run_demo(options, model=model, learn=learn)


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

    log_to_stderr()
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

    log_to_stderr()
    return run_server(serve, kafka, topics, snapshots)


@app.command
def recommend(
    user: str,
    *,
    k: int = 10,
    server: Server = "",
    serve: ServeSettings = ServeSettings(),  # noqa: B008 - frozen
) -> int:
    """Show what the server recommends to a user."""
    from deploy.client import client_of
    from deploy.pages import recommendation_table

    with client_of(serve, server) as client:
        Console().print(recommendation_table(client.recommend(user, k)))
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
    from deploy.client import client_of, send_action

    with client_of(serve, server) as client:
        sequence = send_action(client, kafka, topics, user, item, action, value)
    title = next((event.title for event in sequence.events if event.item_id == item), "")
    say(f"user {user}: {action} {item} {title}".rstrip() + "; the sequence holds it. Now: headwater recommend " + user)
    return 0

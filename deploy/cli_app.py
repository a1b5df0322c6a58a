"""The parts that all verbs of the command share: the app itself, flags of several verbs, what they print."""

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console

from deploy.log_lines import JsonLines

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
forget_app = App(name="forget", help="Have what is kept of someone forgotten.")
snapshots_app = App(name="snapshots", help="Look at published versions, roll back to one, and release it.")
evaluate_app = App(name="evaluate", help="Measure quality on a data set.")
for group in (topics_app, dlq_app, forget_app, snapshots_app, evaluate_app):
    app.command(group)

Server = Annotated[str, Parameter(help="Address of `headwater serve`; without it, that of the settings.")]
JsonFile = Annotated[Path | None, Parameter(help="Write the figures to this file as JSON.")]
Data = Annotated[
    str,
    Parameter(
        help="Name of a data set (ml-100k; those under HEADWATER_DATA; simulator, or simulator:seed=3,drifts=4 with "
        "settings of its own) or a Parquet or CSV file."
    ),
]
Columns = Annotated[str, Parameter(help="Where a file calls its columns otherwise: user_id=uid,ts_ms=time.")]
Items = Annotated[Path | None, Parameter(help="File with item_id, title and optionally categories.")]
Folder = Annotated[
    Path | None, Parameter(name="--data-folder", help="Folder of named data sets.", env_var="HEADWATER_DATA")
]


def pairs(text: str) -> dict[str, str]:
    """`a=b,c=d` as a mapping; raises `ValueError`."""
    found = [part.partition("=") for part in text.split(",") if part]
    for name, equals, column in found:
        if not (name and equals and column):
            raise ValueError(f"columns must be name=column,..., got {text!r}")
    return {name: column for name, _, column in found}


def say(line: str) -> None:
    """Print one line as it is."""
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


def log_to_stderr(log_format: Literal["text", "json"] = "text") -> None:
    """Send our own log lines from INFO, those of others from WARNING to stderr."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonLines() if log_format == "json" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("deploy", "model", "storage", "streams", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)

"""One tree of settings and its one loader: TOML file < environment (`HEADWATER_*`) < flag.

Each part of the tree is declared beside its owner; this file only says what the parts are called. Nothing else in the
project reads the environment.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from cyclopts import App, ArgumentCollection, Token

from deploy.serve_settings import ServeSettings
from model.settings import LearnSettings, ModelSettings
from storage.snapshot_settings import SnapshotSettings
from storage.store_settings import StoreSettings
from streams.ingress_settings import IngressSettings
from streams.kafka_settings import KafkaSettings
from streams.learner_settings import LearnerSettings
from streams.topics import TopicSettings
from streams.worker_settings import WorkerSettings

PREFIX = "HEADWATER_"
"""Begin of every environment variable that is a setting: `HEADWATER_KAFKA_GROUP` is `kafka.group`."""
DEFAULT_FILE = Path("headwater.toml")
"""Settings file that is read where none is named and this one exists."""
NOT_SETTINGS = frozenset({"HEADWATER_CONFIG", "HEADWATER_STREAMS_PEER"})
"""Variables of this prefix that are read elsewhere: the file's own name; the benchmarks' peer."""
FLAGS = {"data": "data_folder"}
"""Settings whose flag has another name: `--data` says which data set, not where they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can be set."""

    data: Path | None = None
    """Folder of named data sets (`HEADWATER_DATA`)."""
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topics: TopicSettings = field(default_factory=TopicSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    ingress: IngressSettings = field(default_factory=IngressSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    learn: LearnSettings = field(default_factory=LearnSettings)
    learner: LearnerSettings = field(default_factory=LearnerSettings)
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)


@dataclass(frozen=True, slots=True)
class Layer:
    """One setting's text, as flags would give it, and where it came from."""

    values: tuple[str, ...]
    source: str


def setting_types(tree: type = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and type of every setting.

    >>> dict(setting_types())["kafka.group"]
    <class 'str'>
    """
    hints = get_type_hints(tree)
    for part in fields(tree):
        if is_dataclass(hints[part.name]):
            yield from setting_types(hints[part.name], f"{prefix}{part.name}.")
        else:
            yield prefix + part.name, hints[part.name]


def read_layers(file: Path | None, environ: Mapping[str, str]) -> dict[str, Layer]:
    """Settings from the file, overlaid with those from the environment; raises `ValueError` for an unknown key."""
    path = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    layers = _file_layers(path) if path else {}
    by_variable = {PREFIX + name.replace(".", "_").upper(): (name, kind) for name, kind in setting_types()}
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS:
            if variable not in by_variable:
                raise ValueError(_unknown(variable, "environment variable", list(by_variable)))
            name, kind = by_variable[variable]
            layers[name] = Layer(tuple(text.split(",")) if get_origin(kind) is tuple else (text,), variable)
    if "store.actions" in layers and "model.actions" not in layers:
        layers["model.actions"] = layers["store.actions"]
    return layers


class LayeredConfig:
    """Gives cyclopts the settings of file and environment, for the flags that were not given."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self.layers = {FLAGS.get(name, name): layer for name, layer in layers.items()}

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Fill in what no flag has set."""
        for argument in arguments:
            layer = self.layers.get(argument.name.removeprefix("--").replace("-", "_"))
            if layer is None or argument.tokens:
                continue
            for place, value in enumerate(layer.values):
                argument.append(Token(keyword=argument.name, value=value, source=layer.source, index=place))


def dump_settings(settings: Settings, *, with_secrets: bool = False) -> str:
    """The settings as TOML that `read_layers` reads back, but for secrets unless they are asked for."""
    scalars, sections = [], []
    for part in fields(settings):
        value = getattr(settings, part.name)
        if is_dataclass(value):
            shown = [leaf for leaf in fields(value) if leaf.repr or with_secrets]
            leaves = {leaf.name: getattr(value, leaf.name) for leaf in shown}
            lines = [f"{name} = {_toml(leaf)}" for name, leaf in leaves.items() if leaf is not None]
            sections.append("\n".join([f"[{part.name}]", *lines]))
        elif value is not None:
            scalars.append(f"{part.name} = {_toml(value)}")
    return "\n\n".join(["\n".join(scalars), *sections]).strip() + "\n"


def environment() -> Mapping[str, str]:
    """The process's environment; the only place where it is read."""
    return os.environ


def _file_layers(path: Path) -> dict[str, Layer]:
    try:
        tree = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"cannot read settings from {path}: {error}") from error
    known = list(dict(setting_types()))
    layers = {}
    for name, value in _flatten(tree):
        if name not in known:
            raise ValueError(_unknown(name, f"setting in {path}", known))
        values = value if isinstance(value, list) else [value]
        layers[name] = Layer(tuple(_text(item) for item in values), str(path))
    return layers


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _unknown(name: str, kind: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0)
    return f"unknown {kind}: {name}; did you mean {near[0]}?"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _toml(value: object) -> str:
    if isinstance(value, bool | int | float):
        return _text(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # TOML's strings are JSON's, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

"""Settings: file < environment < flag, and errors that name the nearest key."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from cyclopts import App

from deploy.serve_settings import ServeSettings
from deploy.settings import LayeredConfig, Settings, dump_settings, read_layers, setting_types
from model.settings import LearnSettings, ModelSettings
from storage.snapshot_settings import SnapshotSettings
from storage.store_settings import StoreSettings
from streams.ingress_settings import IngressSettings
from streams.kafka_settings import KafkaSettings
from streams.learner_settings import LearnerSettings
from streams.topics import TopicSettings
from streams.worker_settings import WorkerSettings

PARTS: dict[str, Any] = {name: kind for name, kind in get_type_hints(Settings).items() if is_dataclass(kind)}


def parse(*flags: str, file: Path | None = None, environ: dict[str, str] | None = None) -> Settings:
    """The settings that a command with every part gets."""
    taken: list[Settings] = []
    app = App(name="test", config=(LayeredConfig(read_layers(file, environ or {})),))

    @app.default
    def command(
        *,
        data_folder: Path | None = None,
        kafka: KafkaSettings = KafkaSettings(),  # noqa: B008 - frozen
        topics: TopicSettings = TopicSettings(),  # noqa: B008 - frozen
        store: StoreSettings = StoreSettings(),  # noqa: B008 - frozen
        worker: WorkerSettings = WorkerSettings(),  # noqa: B008 - frozen
        ingress: IngressSettings = IngressSettings(),  # noqa: B008 - frozen
        model: ModelSettings = ModelSettings(),  # noqa: B008 - frozen
        learn: LearnSettings = LearnSettings(),  # noqa: B008 - frozen
        learner: LearnerSettings = LearnerSettings(),  # noqa: B008 - frozen
        snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
        serve: ServeSettings = ServeSettings(),  # noqa: B008 - frozen
    ) -> None:
        taken.append(
            Settings(
                data=data_folder,
                kafka=kafka,
                topics=topics,
                store=store,
                worker=worker,
                ingress=ingress,
                model=model,
                learn=learn,
                learner=learner,
                snapshots=snapshots,
                serve=serve,
            )
        )

    app(list(flags), exit_on_error=False, print_error=False, result_action="return_value")
    return taken[0]


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


OTHERS: dict[str, dict[str, Any]] = {
    "kafka": {"bootstrap_servers": ("one:1", "[::1]:2"), "group": 'a "b" \\ c', "connect_seconds": 1.5},
    "topics": {
        "prefix": "x.",
        "num_partitions": 7,
        "num_replicas": 3,
        "events_retention_days": 1.25,
        "actions": "acted",
    },
    "store": {"folder": Path("/var/a b"), "actions": ("ja", "nein, danke"), "cap": 5_000, "sample_every": 3},
    "worker": {"web_port": 7_001, "start": "latest", "instance_id": "w-1", "session_seconds": 10.0},
    "ingress": {"metrics_port": 7_004, "start": "latest", "instance_id": "i-1"},
    "model": {"actions": ("ja", "nein, danke"), "dim": 32, "temperature": 1e-05, "dropout": 0.25},
    "learn": {"device": "cpu", "row_rate": 0.125, "seed": 2**40},
    "learner": {"publish_seconds": 0.5, "metrics_port": 7_002},
    "snapshots": {"url": "file:///var/x%20y", "model": "other", "keep": 0},
    "serve": {"host": "0.0.0.0", "port": 7_003, "worker_urls": ("http://a:1", "https://b:2"), "alias": "canary"},  # noqa: S104 - only text
}


SECURED: dict[str, Any] = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "ada",
    "sasl_password": "s3cret",
    "ssl_ca_file": Path("/ca.pem"),
    "ssl_cert_file": Path("/c.pem"),
    "ssl_key_file": Path("/c.key"),
    "ssl_check_hostname": False,
}


def other_settings() -> Settings:
    """Settings of which every part is not the default."""
    return Settings(data=Path("/data"), **{name: kind(**OTHERS[name]) for name, kind in PARTS.items()})


def test_every_part_comes_back_from_what_is_dumped(tmp_path: Path) -> None:
    """The demo writes its settings for its processes: one that is lost is a default again, in silence."""
    assert parse(file=write(tmp_path, dump_settings(other_settings()))) == other_settings()


def test_a_password_is_dumped_only_where_it_is_asked_for(tmp_path: Path) -> None:
    """The settings file of a run, or what a user shows of it, gives the cluster away."""
    settings = Settings(kafka=KafkaSettings(**SECURED))
    dumped = dump_settings(settings)
    assert "s3cret" not in dumped
    taken = parse(file=write(tmp_path, dumped), environ={"HEADWATER_KAFKA_SASL_PASSWORD": "s3cret"})
    assert taken == settings
    assert parse(file=write(tmp_path, dump_settings(settings, with_secrets=True))) == settings


def test_defaults_come_back_from_what_is_dumped(tmp_path: Path) -> None:
    """An empty or an unset value must not become a text."""
    assert parse(file=write(tmp_path, dump_settings(Settings()))) == Settings()
    assert "data" not in dump_settings(Settings())


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """A flag that does nothing costs an afternoon."""
    file = write(tmp_path, "[kafka]\ngroup = 'file'\nconnect_seconds = 1.0\n[learn]\nseed = 1\n")
    environ = {"HEADWATER_KAFKA_GROUP": "environment", "HEADWATER_LEARN_SEED": "2"}
    assert parse(file=file).kafka == KafkaSettings(group="file", connect_seconds=1.0)
    taken = parse(file=file, environ=environ)
    assert (taken.kafka.group, taken.kafka.connect_seconds, taken.learn.seed) == ("environment", 1.0, 2)
    taken = parse("--kafka.group", "flag", file=file, environ=environ)
    assert (taken.kafka.group, taken.kafka.connect_seconds, taken.learn.seed) == ("flag", 1.0, 2)


def test_a_flag_replaces_a_whole_list(tmp_path: Path) -> None:
    """Brokers of the file beside those of the flag would mix two clusters."""
    file = write(tmp_path, "[kafka]\nbootstrap_servers = ['a:1', 'b:2']\n")
    assert parse(file=file).kafka.bootstrap_servers == ("a:1", "b:2")
    environ = {"HEADWATER_KAFKA_BOOTSTRAP_SERVERS": "c:3,d:4,e:5"}
    assert parse(file=file, environ=environ).kafka.bootstrap_servers == ("c:3", "d:4", "e:5")
    flags = ("--kafka.bootstrap-servers", "f:6")
    assert parse(*flags, file=file, environ=environ).kafka.bootstrap_servers == ("f:6",)


@pytest.mark.parametrize("name", sorted(set(dict(setting_types())) - {"data"}))
def test_every_setting_has_a_variable(name: str) -> None:
    """A variable that is not known is an error, so each must be."""
    variable = "HEADWATER_" + name.replace(".", "_").upper()
    assert read_layers(None, {variable: "7"})[name].values == ("7",)
    assert read_layers(None, {variable: "7"})[name].source == variable


def test_no_two_settings_share_a_variable() -> None:
    """One of the two could not be set."""
    variables = [name.replace(".", "_") for name in dict(setting_types())]
    assert len(set(variables)) == len(variables)


def test_the_data_folder_is_no_data_set(tmp_path: Path) -> None:
    """HEADWATER_DATA would be replayed as if it had been given as --data."""
    assert parse(environ={"HEADWATER_DATA": "/sets"}).data == Path("/sets")
    assert parse(file=write(tmp_path, "data = '/sets'")).data == Path("/sets")
    taken: list[str] = []
    app = App(name="test", config=(LayeredConfig(read_layers(None, {"HEADWATER_DATA": "/sets"})),))

    @app.default
    def command(*, data: str = "ml-100k") -> None:
        taken.append(data)

    app([], exit_on_error=False, result_action="return_value")
    assert taken == ["ml-100k"]


def test_the_store_s_actions_are_the_model_s(tmp_path: Path) -> None:
    """Bits of a mask would mean one thing in the worker and another in the learner."""
    taken = parse(file=write(tmp_path, "[store]\nactions = ['buy', 'view']\n"))
    assert (taken.store.actions, taken.model.actions) == (("buy", "view"), ("buy", "view"))
    taken = parse(environ={"HEADWATER_STORE_ACTIONS": "buy,view"})
    assert taken.model.actions == ("buy", "view")
    both = {"HEADWATER_STORE_ACTIONS": "buy,view", "HEADWATER_MODEL_ACTIONS": "a,b"}
    assert parse(environ=both).model.actions == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kafka]\ngruop = 'x'", "unknown setting in .*: kafka.gruop; did you mean kafka.group?"),
        ("[kafak]\ngroup = 'x'", "unknown setting in .*: kafak.group; did you mean kafka.group?"),
        ("seed = 1", "unknown setting in .*: seed; did you mean learn.seed?"),
        ("[kafka]\n[kafka.group]\nname = 'x'", "unknown setting in .*: kafka.group.name; did you mean kafka.group?"),
        ("[kafka\n", "cannot read settings from .*settings.toml: "),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    """A typo would leave the default in place."""
    with pytest.raises(ValueError, match=message):
        read_layers(write(tmp_path, text), {})


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    """The command would run with defaults though a file was named."""
    with pytest.raises(ValueError, match=r"cannot read settings from .*none\.toml"):
        read_layers(tmp_path / "none.toml", {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"cannot read settings from .*binary\.toml"):
        read_layers(tmp_path / "binary.toml", {})


def test_an_unknown_variable_is_refused_by_name() -> None:
    """HEADWATER_KAFKA_SERVERS would be ignored."""
    message = "unknown environment variable: HEADWATER_KAFKA_GROPU; did you mean HEADWATER_KAFKA_GROUP?"
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        read_layers(None, {"HEADWATER_KAFKA_GROPU": "x"})


def test_other_programs_variables_are_left_alone() -> None:
    """Every shell has a PATH; the file's own name and the benchmarks' peer are read elsewhere."""
    others = {"PATH": "/bin", "headwater_kafka_group": "x", "HEADWATER_CONFIG": "f", "HEADWATER_STREAMS_PEER": "p"}
    assert read_layers(None, others) == {}


def test_a_file_of_the_usual_name_is_read_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The help says that headwater.toml is read."""
    monkeypatch.chdir(tmp_path)
    assert read_layers(None, {}) == {}
    Path("headwater.toml").write_text("[learn]\nseed = 5\n")
    assert parse().learn.seed == 5
    assert parse(file=write(tmp_path, "[learn]\nseed = 6\n")).learn.seed == 6


def test_values_are_checked_where_they_are_declared(tmp_path: Path) -> None:
    """A file could hold what a flag may not."""
    with pytest.raises(Exception, match="keep must be >= 0, got -1"):
        parse(file=write(tmp_path, "[snapshots]\nkeep = -1\n"))


def test_every_part_is_checked_by_the_round_trip() -> None:
    """A part that is added must be added to these tests."""
    assert OTHERS.keys() == PARTS.keys()
    for name, kind in PARTS.items():
        known = {part.name for part in fields(kind)}
        assert OTHERS[name].keys() <= known

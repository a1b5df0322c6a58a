"""The main job: a data set replayed as live events through every process, on one machine, with one command."""

import contextlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from deploy.broker import broker_command, port_is_free
from deploy.client import client_of
from deploy.demo_settings import demo_settings, free_or_usual
from deploy.json_file import write_json
from deploy.live import Figures, LiveTable
from deploy.pages import freshness_table, recommendation_table
from deploy.probe import Probe
from deploy.serve_settings import ServeSettings
from deploy.settings import Settings, dump_settings
from deploy.story import Story, tell_story
from deploy.supervisor import Managed, Supervisor, headwater_command
from deploy.verify import verify_all
from model.settings import LearnSettings, ModelSettings
from storage.errors import SetupError
from streams.dataset import Dataset
from streams.datasets import load_dataset
from streams.figures import get_json, scrape
from streams.topics import create_topics
from streams.verify import VerifyReport

BROKEN_RECORDS = 25
"""Broken records that are slipped in among the events."""
READY_SECONDS = 120.0
"""How long the processes may take to come up."""
DRAIN_SECONDS = 120.0
"""How long the last events may take into the weights."""
QUALITY = (
    "hit_rate",
    "hit_rate_last_quarter",
    "popularity_hit_rate",
    "popularity_hit_rate_last_quarter",
    "staleness_cost",
    "ndcg",
    "mrr",
    "auc",
)
"""Prequential figures of the learner that the summary holds."""
PROBE_SECONDS = 0.25
"""Time between two requests to the server."""
LOOK_SECONDS = 1.0
"""Time between two looks at the processes; each look costs those that are looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """What the demo replays and where it keeps things."""

    data: str = "ml-100k"
    columns: dict[str, str]
    items: Path | None = None
    limit: int | None = None
    forever: bool = False
    folder: Path = Path(".headwater")
    json: Path | None = None
    data_folder: Path | None = None


def run_demo(options: DemoOptions, *, model: ModelSettings, learn: LearnSettings) -> int:
    """Run the whole demo; 0 where every record was accounted for, 1 where not, 130 after Ctrl-C."""
    console = Console()
    started = time.monotonic()
    port = free_or_usual(ServeSettings().port)
    console.print(f"live page http://127.0.0.1:{port}/ (once the server is up)", highlight=False, soft_wrap=True)
    dataset = load_dataset(
        options.data,
        cache=options.folder / "cache",
        folder=options.data_folder,
        columns=options.columns,
        items=options.items,
        say=lambda line: console.print(line, markup=False, highlight=False),
    ).head(options.limit)
    demo = Demo(options, dataset, demo_settings(options.folder, dataset.action_names, model, learn, port), console)
    # SIGTERM and a closed terminal end it as Ctrl-C does: no process may be left behind.
    _on_signals(signal.default_int_handler)
    try:
        demo.start()
        demo.watch()
        story = demo.tell()
        report = demo.verify()
        summary = demo.summary(report, story, time.monotonic() - started)
        demo.show(summary)
        write_json(options.json, summary)
        if options.forever:
            demo.stay()
        return 0 if report.is_exact else 1
    except KeyboardInterrupt:
        console.print("stopping")
        return 130
    finally:
        _on_signals(signal.SIG_IGN)
        demo.stop()


class Demo:
    """The processes of one run, and what is asked of them."""

    def __init__(self, options: DemoOptions, dataset: Dataset, settings: Settings, console: Console) -> None:
        self.options = options
        self.dataset = dataset
        self.settings = settings
        self.console = console
        self.run = settings.store.folder.parent
        self.supervisor = Supervisor()
        self.client = client_of(settings.serve)
        self._progress = self.run / "replay.json"
        self._probe = Probe(self.client.url, dataset.user_ids, PROBE_SECONDS)

    def start(self) -> None:
        """Start everything in order; returns once the replay is on its way."""
        self.run.mkdir(parents=True)
        (self.run / "settings.toml").write_text(dump_settings(self.settings))
        self._say(f"run folder {self.run} (settings, state, snapshots, logs)")
        self._start("broker", broker_command(self._broker_port), restart=False)
        self._wait("the broker", lambda: not port_is_free("127.0.0.1", self._broker_port))
        create_topics(self.settings.kafka, self.settings.topics)
        for name in ("worker", "learn", "serve"):
            self._start(name, headwater_command("--config", str(self.run / "settings.toml"), name))
        partitions = self.settings.topics.num_partitions
        self._wait("the worker", lambda: len(self._state().get("partitions", {})) == partitions)
        self._wait("the learner", lambda: bool(scrape(self._learner_url)))
        self._start("replay", self._replay_command(), restart=False)
        self._say(f"live page {self.client.url}/")
        self._probe.start()

    def watch(self) -> None:
        """Show the live table until every row was sent, folded, learned and published."""
        with LiveTable(self.console) as table:
            deadline = float("inf")
            while True:
                self.supervisor.tend()
                figures, drained = self._figures()
                done = self.supervisor.processes["replay"].exit_code == 0
                table.update(figures, last=done and drained)
                if done and drained:
                    return
                deadline = min(deadline, time.monotonic() + DRAIN_SECONDS) if done else float("inf")
                if time.monotonic() > deadline:
                    raise SetupError(
                        f"the last events are not learned after {DRAIN_SECONDS:.0f} s; see {self.run}/logs"
                    )
                time.sleep(LOOK_SECONDS)

    def tell(self) -> Story | None:
        """Like three items of one genre for a user, and show the list before and after."""
        names = self.dataset.action_names
        action = "like" if "like" in names else names[0]
        value = 5.0 if action == "like" else None
        story = tell_story(self.client, self.settings.kafka, self.settings.topics, self.dataset, action, value)
        if story is None:
            self._say("\nno genre comes in runs here: no story to tell (--items FILE gives titles and categories)")
            return None
        titles = ", ".join(item.title for item in story.liked)
        self.console.print()
        self.console.print(recommendation_table(story.before, f"User {story.user_id} is recommended"))
        self._say(f"\nUser {story.user_id} likes three of {story.genre}: {titles}\n")
        self.console.print(recommendation_table(story.after, f"User {story.user_id} is recommended now"))
        self._say(f"{story.genre}: {story.share_before:.0%} of the list before, {story.share_after:.0%} after")
        return story

    def verify(self) -> VerifyReport:
        """Hold the whole log against sequences and learned ranges."""
        self._say("\nverifying: every record of the log against every sequence and every learned range")
        settings = self.settings
        return verify_all(
            settings.kafka, settings.topics, settings.store, settings.serve.worker_urls, settings.snapshots
        )

    def summary(self, report: VerifyReport, story: Story | None, seconds: float) -> dict[str, Any]:
        """All figures of the run."""
        learner, worker = scrape(self._learner_url), scrape(f"{self._worker_url}/metrics")
        quality = learner.by_label("headwater_prequential", "figure")
        freshness = get_json(f"{self.client.url}/freshness") or {}
        told = {} if story is None else _story_figures(story)
        return {
            "ratings_consumed": report.impressions - report.missing,
            **{name: value for name, value in asdict(report).items() if name != "impressions"},
            **{name: quality.get(name) for name in QUALITY},
            "snapshots": int(learner.value("headwater_snapshot_version")),
            "event_to_sequence_p95_seconds": worker.quantile("headwater_event_to_sequence_seconds", 0.95),
            "event_to_weights_p95_seconds": freshness.get("event_to_weights", {}).get("p95_seconds"),
            "freshness": freshness,
            "restarts": self.supervisor.restarts(),
            "seconds": round(seconds, 1),
            **told,
        }

    def show(self, summary: dict[str, Any]) -> None:
        """Print the summary and what to try next."""
        self.console.print()
        for name, value in summary.items():
            text = f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
            if name != "freshness":
                self._say(f"  {name:34} {text}")
        if summary["freshness"]:
            self._say("\nFrom an event to weights that answer, part by part:")
            self.console.print(freshness_table(summary["freshness"]))
        self._say("\nWhat to try next:")
        if not self.options.forever:
            self._say("  make demo ARGS=--forever           the same, and everything stays up for what follows")
            return
        command = f"headwater --config {self.run / 'settings.toml'}"
        user, item = self.dataset.user_ids[-1], self.dataset.item_ids[0]
        self._say(f"  {command} recommend {user}")
        self._say(f"  {command} click {user} {item}    then recommend again: the list has changed")
        self._say(f"  {self.client.url}/    the live page, where a click is an event; /docs is the HTTP API")

    def stay(self) -> None:
        """Keep everything up until Ctrl-C."""
        self._say("\neverything stays up; Ctrl-C stops it")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                self.supervisor.tend()
                time.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """Stop every process."""
        self.client.close()
        self._probe.stop()
        self.supervisor.stop()

    @property
    def _broker_port(self) -> int:
        return int(self.settings.kafka.bootstrap_servers[0].rpartition(":")[2])

    @property
    def _worker_url(self) -> str:
        return self.settings.serve.worker_urls[0]

    @property
    def _learner_url(self) -> str:
        return f"http://{self.settings.learner.metrics_host}:{self.settings.learner.metrics_port}/metrics"

    def _figures(self) -> tuple[Figures, bool]:
        """The present figures, and whether nothing is on its way any more."""
        learner, state = scrape(self._learner_url), self._state()
        partitions = state.get("partitions", {}).values()
        freshness = get_json(f"{self.client.url}/freshness") or {}
        worker = scrape(f"{self._worker_url}/metrics")
        progress = json.loads(self._progress.read_text()) if self._progress.exists() else {}
        quality = learner.by_label("headwater_prequential", "figure")
        lag = sum(max(0, part["highwater"] - part["applied"] - 1) for part in partitions)
        outbox = sum(part["outbox"] for part in partitions)
        figures = Figures(
            rows=progress.get("rows", 0),
            records=sum(part["applied"] + 1 for part in partitions),
            lag=lag,
            samples=learner.value("headwater_samples_learned_total"),
            events=quality.get("events", 0.0),
            hit_rate=quality.get("hit_rate", float("nan")),
            popularity_hit_rate=quality.get("popularity_hit_rate", float("nan")),
            vocabulary=int(learner.value("headwater_vocabulary_rows")),
            version=int(learner.value("headwater_snapshot_version")),
            sequence_p95_seconds=worker.quantile("headwater_event_to_sequence_seconds", 0.95),
            weights_p95_seconds=freshness.get("event_to_weights", {}).get("p95_seconds"),
            dead_letters=int(worker.value("headwater_dead_letters_total")),
        )
        answering = str(freshness.get("model_version", "")).rpartition("/v")[2]
        idle = bool(learner) and learner.value("headwater_learner_behind_seconds") == 0
        published = learner.value("headwater_unpublished_records") == 0 and answering == str(figures.version)
        return figures, bool(partitions) and not lag and not outbox and idle and published

    def _state(self) -> dict[str, Any]:
        return get_json(f"{self._worker_url}/state") or {}

    def _start(self, name: str, command: list[str], *, restart: bool = True) -> None:
        self.supervisor.start(Managed(name, command, self.run / "logs" / f"{name}.log", restart=restart))

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        self._say(f"waiting for {what}")
        while not ready():
            self.supervisor.tend()
            if time.monotonic() > deadline:
                raise SetupError(f"{what} did not come up in {READY_SECONDS:.0f} s; see {self.run}/logs")
            time.sleep(0.05)

    def _replay_command(self) -> list[str]:
        options = self.options
        command = ["--config", str(self.run / "settings.toml"), "replay", "--data", options.data]
        command += ["--broken", str(BROKEN_RECORDS), "--progress", str(self._progress)]
        command += ["--learner-url", self._learner_url, "--cache", str(options.folder / "cache")]
        if options.columns:
            command += ["--columns", ",".join(f"{name}={column}" for name, column in options.columns.items())]
        for flag, value in (
            ("--items", options.items),
            ("--limit", options.limit),
            ("--data-folder", options.data_folder),
        ):
            command += [flag, str(value)] if value is not None else []
        return headwater_command(*command)

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _on_signals(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _story_figures(story: Story) -> dict[str, Any]:
    return {
        "story_user": story.user_id,
        "story_genre": story.genre,
        "story_share_before": story.share_before,
        "story_share_after": story.share_after,
    }

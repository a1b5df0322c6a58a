"""A whole installation for tests: worker, learner and server as processes of their own against a running broker."""

import signal
from collections.abc import Callable
from dataclasses import replace
from os import kill
from pathlib import Path
from types import TracebackType

from deploy.broker import free_port
from deploy.client import ServerClient
from deploy.settings import Settings, dump_settings
from deploy.supervisor import Managed, Supervisor, headwater_command
from deploy.verify import verify_all
from streams.figures import get_json, scrape
from streams.verify import VerifyReport
from tests.brokers import Broker, fresh_topics, wait_until


def fresh_settings(broker: Broker, folder: Path, actions: tuple[str, ...]) -> Settings:
    """Settings of a new installation: topics, folders and ports that nothing else uses, and a small model."""
    kafka, topics = fresh_topics(broker)
    usual, web_port = Settings(), free_port()
    return replace(
        usual,
        kafka=kafka,
        topics=topics,
        store=replace(usual.store, folder=folder / "state", actions=actions),
        worker=replace(usual.worker, web_port=web_port, checkpoint_seconds=5.0),
        model=replace(usual.model, actions=actions, dim=16, window=64, num_layers=1),
        learner=replace(usual.learner, metrics_port=free_port(), publish_seconds=1.0),
        snapshots=replace(usual.snapshots, url=str(folder / "snapshots")),
        serve=replace(usual.serve, port=free_port(), worker_urls=(f"http://127.0.0.1:{web_port}",)),
    )


class Installation:
    """Started by `with`, tended by `tend`, stopped at the end."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.supervisor = Supervisor()
        self.client = ServerClient(f"http://127.0.0.1:{settings.serve.port}")

    def __enter__(self) -> "Installation":
        config = self.folder / "settings.toml"
        config.write_text(dump_settings(self.settings))
        for name in ("worker", "learn", "serve"):
            command = headwater_command("--config", str(config), name)
            self.supervisor.start(Managed(name, command, self.folder / f"{name}.log"))
        wait_until("the worker holds every partition", self._worker_is_ready)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.supervisor.stop()

    @property
    def learner_url(self) -> str:
        """The learner's metrics."""
        return f"http://127.0.0.1:{self.settings.learner.metrics_port}/metrics"

    def kill(self, *names: str) -> None:
        """SIGKILL processes that run, all at once."""
        for pid in [self.supervisor.processes[name].pid for name in names]:
            assert pid is not None
            kill(pid, signal.SIGKILL)

    def is_up(self, *names: str) -> bool:
        """Whether processes run and answer; tends them all."""
        self.supervisor.tend()
        answers: dict[str, Callable[[], bool]] = {"worker": self._worker_is_ready, "learn": self._learner_answers}
        return all(self.supervisor.processes[name].pid and answers[name]() for name in names)

    def verify(self) -> VerifyReport:
        """What `headwater verify` finds; waits until all is applied and learned."""
        settings = self.settings
        return verify_all(
            settings.kafka, settings.topics, settings.store, settings.serve.worker_urls, settings.snapshots
        )

    def _learner_answers(self) -> bool:
        return bool(scrape(self.learner_url))

    def _worker_is_ready(self) -> bool:
        self.supervisor.tend()
        state = get_json(f"{self.settings.serve.worker_urls[0]}/state") or {}
        return len(state.get("partitions", {})) == self.settings.topics.num_partitions

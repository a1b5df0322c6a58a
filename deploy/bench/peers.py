"""The peers of the stream worker: how each is run, and what it says of its run."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bench import faust_table, quix_state, raw_consumer
from deploy.bench.processes import Finished, Measured, last_words, run_to_end
from deploy.bench.rows import Planned
from storage.errors import SetupError

QUIX = "quixstreams>=3,<4"
INSTALL_SECONDS = 600.0
RUN_SECONDS = 1_800.0


class NotRunError(SetupError):
    """A peer that cannot be run here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peers:
    """Where the peers are and what they connect to."""

    address: str
    """The broker."""
    folder: Path
    """Where a run keeps its state and logs."""
    cache: Path
    """Where environments are kept between runs."""
    streams_peer: Path | None
    """Folder with the Kafka Streams job."""
    kafka_home: Path
    environ: Mapping[str, str]

    def run(self, planned: Planned, name: str) -> Measured:
        """Run a peer to its end; `name` is the run's own.

        Raises `NotRunError` where it cannot be run here, `SetupError` where it fails.
        """
        command = getattr(self, "_" + planned.system.replace("-", "_"))(planned, self.folder / name)
        environ = {**self.environ, "KAFKA_HOME": str(self.kafka_home.absolute()), "TMPDIR": str(self.folder.absolute())}
        finished = run_to_end(command, log=self.folder / f"{name}.log", environ=environ, limit_seconds=RUN_SECONDS)
        return _measured(finished, planned)

    def _faust_table(self, planned: Planned, folder: Path) -> list[str]:
        log = planned.log
        arguments = (self.address, log.topics.events, log.topics.samples, str(log.partitions), str(folder))
        return [sys.executable, "-P", "-m", faust_table.__name__, *arguments, str(planned.events)]

    def _aiokafka(self, planned: Planned, folder: Path) -> list[str]:
        log = planned.log
        arguments = (self.address, log.topics.events, str(log.partitions), str(planned.events))
        return [sys.executable, "-P", "-m", raw_consumer.__name__, *arguments]

    def _quixstreams(self, planned: Planned, folder: Path) -> list[str]:
        log = planned.log
        arguments = (self.address, log.topics.events, log.topics.samples, str(folder), str(planned.events))
        return [str(self._quix_python()), str(quix_state.__file__), *arguments]

    def _kafka_streams(self, planned: Planned, folder: Path) -> list[str]:
        if self.streams_peer is None:
            raise NotRunError("HEADWATER_STREAMS_PEER is not set: name the folder of the Kafka Streams job")
        if shutil.which("java") is None:
            raise NotRunError("java is not on the path")
        topics = planned.log.topics
        options = [f"threads={planned.workers}", f"topic={topics.events}", f"samples={topics.samples}"]
        return [
            "bash",
            str(self.streams_peer / "run"),
            self.address,
            "smart-eos",
            str(planned.events),
            *options,
            f"state={folder.absolute()}",
        ]

    def _quix_python(self) -> Path:
        python = self.cache / "quixstreams" / "bin" / "python"
        marker = self.cache / "quixstreams" / "installed"
        if marker.exists():
            return python.absolute()
        log = self.folder / "quixstreams-install.log"
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", QUIX]
        try:
            for command in ([sys.executable, "-m", "venv", "--clear", str(self.cache / "quixstreams")], install):
                run_to_end(command, log=log, environ=self.environ, limit_seconds=INSTALL_SECONDS)
        except (SetupError, OSError) as error:
            raise NotRunError(f"pip could not install {QUIX}: {last_words(log)}") from error
        marker.touch()
        return python.absolute()


def _measured(finished: Finished, planned: Planned) -> Measured:
    lines = [line for line in finished.output.splitlines() if line.startswith("{")]
    if not lines:
        raise SetupError(f"{planned.name} printed no figures")
    figures: dict[str, Any] = json.loads(lines[-1])
    return Measured(
        seconds=float(figures.get("seconds_to_committed", figures["seconds"])),
        cpu_seconds=finished.cpu_seconds,
        peak_rss_mb=float(figures["peak_rss_mb"]),
    )

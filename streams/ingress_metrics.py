"""What an ingress tells Prometheus."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, start_http_server

from storage.changes import Refused
from storage.errors import SetupError


class IngressMetrics:
    """Counters by source topic since the process started."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.forwarded = self._counter("headwater_forwarded", "Records that were forwarded", "topic")
        self.refused = self._counter("headwater_refused", "Records that were refused", "topic", "cause")
        self.holes = self._counter("headwater_holes", "Chunks that did not join and were read again", "topic")

    def count(self, topic: str, num_forwarded: int, refused: Sequence[Refused]) -> None:
        """Count the records of a chunk."""
        self.forwarded.labels(topic).inc(num_forwarded)
        for record in refused:
            self.refused.labels(topic, record.cause).inc()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Answer GET /metrics until what is returned is called; raises `SetupError` where the port is in use."""
        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise SetupError(f"ingress.metrics_port: port {port} on {host} is in use; choose another port") from error

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

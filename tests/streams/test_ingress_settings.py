from typing import Any

import pytest

from deploy.broker import free_port
from storage.errors import SetupError
from streams.ingress_metrics import IngressMetrics
from streams.ingress_settings import IngressSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics_port": 0}, "metrics_port must be 1 to 65535, got 0"),
        ({"watchdog_seconds": 0}, "watchdog_seconds must be > 0, got 0"),
        ({"session_seconds": 5}, "session_seconds must be 6 to 1800, which brokers allow, got 5"),
        ({"start": "now"}, "start must be earliest or latest, got 'now'"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    """A broker that refuses the session ends the process later, and in words of its own."""
    with pytest.raises(ValueError, match=message):
        IngressSettings(**settings)


def test_a_port_in_use_is_one_line() -> None:
    """The second ingress on a machine is the usual case."""
    port = free_port()
    stop = IngressMetrics().serve("127.0.0.1", port)
    with pytest.raises(SetupError, match=rf"ingress.metrics_port: port {port} on 127.0.0.1 is in use; choose another"):
        IngressMetrics().serve("127.0.0.1", port)
    stop()
    IngressMetrics().serve("127.0.0.1", port)()

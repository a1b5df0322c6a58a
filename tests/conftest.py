"""Brokers, one of each kind for each process that runs tests."""

from collections.abc import Iterator

import pytest

from streams.warm_up import warm_up
from tests.brokers import BROKERS, Broker, new_broker


@pytest.fixture(scope="session", autouse=True)
def _compiled_code() -> None:
    """Made once and before the clock of any test runs; worker processes of tests find it."""
    warm_up(["click"])


@pytest.fixture(scope="session")
def running_brokers() -> Iterator[dict[str, Broker]]:
    """Brokers by name, each started when a test first asks for it."""
    running: dict[str, Broker] = {}
    yield running
    for broker in running.values():
        broker.stop()


def _running(name: str, running: dict[str, Broker], paths: pytest.TempPathFactory) -> Broker:
    if name not in running:
        broker = new_broker(name, paths.mktemp(name))
        broker.start()
        running[name] = broker
    return running[name]


@pytest.fixture(params=BROKERS)
def broker(
    request: pytest.FixtureRequest,
    running_brokers: dict[str, Broker],
    tmp_path_factory: pytest.TempPathFactory,
) -> Broker:
    """Each kind of broker in turn."""
    return _running(request.param, running_brokers, tmp_path_factory)


@pytest.fixture
def tansu(running_brokers: dict[str, Broker], tmp_path_factory: pytest.TempPathFactory) -> Broker:
    """The embedded broker."""
    return _running("tansu", running_brokers, tmp_path_factory)

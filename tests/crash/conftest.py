"""Fixtures of the crash matrix."""

import pytest

from tests.brokers import Broker, new_broker


@pytest.fixture(scope="module")
def kafka(running_brokers: dict[str, Broker], tmp_path_factory: pytest.TempPathFactory) -> Broker:
    """An Apache Kafka, the session's own."""
    if "kafka" not in running_brokers:
        broker = new_broker("kafka", tmp_path_factory.mktemp("kafka"))
        broker.start()
        running_brokers["kafka"] = broker
    return running_brokers["kafka"]

from pathlib import Path

import pytest

from deploy.broker import free_port
from storage.errors import SetupError
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings, admin_client, create_topics, describe_topic
from tests.brokers import Broker, fresh_topics


def test_topics_are_created_once(broker: Broker) -> None:
    """`topics create` run a second time fails or makes topics anew."""
    kafka, topics = fresh_topics(broker)
    before = describe_topic(kafka, topics.events)
    assert create_topics(kafka, topics) == []
    assert describe_topic(kafka, topics.events) == before
    assert before is not None
    assert before.num_partitions == 4
    with admin_client(kafka) as admin:
        assert set(topics.names) <= set(admin.list_topics())


def test_a_missing_topic_is_created_beside_existing_ones(tansu: Broker) -> None:
    kafka, topics = fresh_topics(tansu)
    with admin_client(kafka) as admin:
        admin.delete_topics([topics.samples])
    assert create_topics(kafka, topics) == [topics.samples]


def test_another_partition_count_is_refused(broker: Broker) -> None:
    """A changed partition count moves users to other stores without a word."""
    kafka, topics = fresh_topics(broker, num_partitions=2)
    with pytest.raises(SetupError, match=r"events has 2 partitions, the settings say 3: set topics.num_partitions"):
        create_topics(kafka, TopicSettings(prefix=topics.prefix, num_partitions=3))


def test_a_deleted_topic_has_another_id(broker: Broker) -> None:
    """The state of a deleted log is taken for the new one's."""
    kafka, topics = fresh_topics(broker)
    before = describe_topic(kafka, topics.events)
    with admin_client(kafka) as admin:
        admin.delete_topics([topics.events])
    create_topics(kafka, topics)
    after = describe_topic(kafka, topics.events)
    assert before is not None
    assert after is not None
    assert before.topic_id != after.topic_id


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_topics_are_kept_as_declared(broker: Broker) -> None:
    """Producers' clocks stamp events, or the catalogue is deleted after a week."""
    kafka, topics = fresh_topics(broker)
    assert _config(kafka, topics.events, "message.timestamp.type") == "LogAppendTime"
    assert _config(kafka, topics.events, "retention.ms") == str(30 * 24 * 3600 * 1000)
    assert _config(kafka, topics.items, "cleanup.policy") == "compact"
    assert _config(kafka, topics.samples, "cleanup.policy") == "delete"


def _config(kafka: KafkaSettings, topic: str, name: str) -> object:
    from kafka.admin import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]  # ships no types

    with admin_client(kafka) as admin:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    value: object = found["topic"][topic][name]["value"]
    return value


def test_no_broker_is_one_clear_line() -> None:
    """A command hangs or shows a stack trace where no broker runs."""
    address = f"127.0.0.1:{free_port()}"
    kafka = KafkaSettings(bootstrap_servers=(address,), connect_seconds=0.5)
    with pytest.raises(SetupError, match=rf"no answer from Kafka at {address} .*kafka.bootstrap_servers") as caught:
        create_topics(kafka, TopicSettings())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"prefix": "no space"}, {"num_partitions": 0}, {"num_replicas": 0}, {"events_retention_days": 0.0}],
)
def test_topic_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        TopicSettings(**settings)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "settings",
    [
        {"bootstrap_servers": ()},
        {"bootstrap_servers": ("localhost",)},
        {"bootstrap_servers": ("localhost:70000",)},
        {"group": " "},
        {"connect_seconds": 0.0},
        {"security_protocol": "TLS"},
        {"sasl_mechanism": "NTLM"},
        {"sasl_username": "ada"},
        {"sasl_username": "", "sasl_password": "x", "security_protocol": "SASL_SSL"},
        {"ssl_ca_file": Path("ca.pem")},
        {"ssl_cert_file": None, "ssl_key_file": Path("key.pem"), "security_protocol": "SSL"},
    ],
)
def test_kafka_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}.* must"):
        KafkaSettings(**settings)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"impressions": "a b"}, "impressions must be letters"),
        ({"prefix": "x-", "actions": "x-samples"}, "actions must be a topic of others, got 'x-samples'"),
        ({"impressions": "all", "actions": "all"}, "impressions and actions must be two topics, got 'all' for both"),
    ],
)
def test_topics_of_others_are_not_ours(settings: dict[str, str], message: str) -> None:
    """An ingress that reads what it writes fills the brokers."""
    with pytest.raises(ValueError, match=message):
        TopicSettings(**settings)  # type: ignore[arg-type]  # the values given are all texts


def test_the_prefix_is_not_that_of_topics_of_others() -> None:
    topics = TopicSettings(prefix="x-", impressions="shown")
    assert topics.sources == {"shown": "impression"}
    assert "shown" not in topics.names

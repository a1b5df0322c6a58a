"""Everything that talks to Kafka, over TLS with a certificate of its own and a password."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion  # type: ignore[import-untyped]  # ships no types

from deploy.broker import free_port
from storage.errors import SetupError
from storage.store_settings import StoreSettings
from streams.catalogue import Catalogue
from streams.dead_letters import list_dead_letters
from streams.events import Action
from streams.items import Item
from streams.kafka_clients import security_options
from streams.kafka_settings import KafkaSettings
from streams.learner_process import connect_consumer
from streams.plain_log import read_topic
from streams.producer import EventProducer
from streams.replay_process import publish_items
from streams.topics import TopicSettings, admin_client, create_topics
from streams.worker import WorkerSettings, run_worker
from tests.brokers import new_broker, wait_until
from tests.streams.workers import WorkerThread

PASSWORD = 's3cret, = "quoted"'
JAAS = "org.apache.kafka.common.security"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """Settings of a broker that asks for TLS, a client's certificate and a password."""
    folder = tmp_path_factory.mktemp("secured")
    _write_certificates(folder)
    port = free_port()
    listener = "listener.name.sasl_ssl"
    quoted = PASSWORD.replace('"', '\\\\"')
    properties = {
        f"{listener}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        f"{listener}.plain.sasl.jaas.config": f'{JAAS}.plain.PlainLoginModule required user_ada="{quoted}";',
        f"{listener}.scram-sha-512.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
        f"{listener}.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
    }
    broker = new_broker("kafka", folder / "kafka", listeners=[f"SASL_SSL://127.0.0.1:{port}"], properties=properties)
    with broker:
        upsert = UserScramCredentialUpsertion("ada", ScramMechanism.SCRAM_SHA_512, PASSWORD)
        with admin_client(KafkaSettings(bootstrap_servers=(broker.address,))) as admin:
            admin.alter_user_scram_credentials([upsert])
        yield KafkaSettings(
            bootstrap_servers=(f"127.0.0.1:{port}",),
            connect_seconds=5.0,
            security_protocol="SASL_SSL",
            sasl_username="ada",
            sasl_password=PASSWORD,
            ssl_ca_file=folder / "ca.pem",
            ssl_cert_file=folder / "client.pem",
            ssl_key_file=folder / "client.key",
        )


def _write_certificates(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    broker, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.org")
    # Java reads no other form of a key.
    key = serialization.load_pem_private_key(broker.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "broker.pem").write_bytes(key + b"".join(blob.bytes() for blob in broker.cert_chain_pems))
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    client.private_key_pem.write_to_path(folder / "client.key")


def test_a_password_is_in_no_repr() -> None:
    """A log line of the settings gives the cluster away."""
    settings = KafkaSettings(security_protocol="SASL_SSL", sasl_username="ada", sasl_password="s3cret")
    assert settings.sasl_password == "s3cret"
    assert "s3cret" not in repr(settings)
    assert "sasl_username='ada'" in repr(settings)


def test_what_is_no_certificate_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    settings = KafkaSettings(security_protocol="SSL", ssl_ca_file=tmp_path / "ca.pem")
    with pytest.raises(SetupError, match=r"TLS cannot be set up with .*ca.pem .*; check kafka.ssl_ca_file"):
        create_topics(settings, TopicSettings())


@pytest.mark.kafka
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_every_client_takes_the_settings(secured: KafkaSettings, tmp_path: Path, mechanism: Any) -> None:
    """One of a dozen clients goes on in plain text, and only a cluster of someone else's shows it."""
    kafka = replace(secured, sasl_mechanism=mechanism, group=f"group-{mechanism}")
    topics = TopicSettings(prefix=f"{mechanism}-", num_partitions=2)
    create_topics(kafka, topics)
    publish_items(kafka, topics, {"i": Item(item_id="i", title="I")})
    with EventProducer(kafka.bootstrap_servers, topic=topics.events, security=security_options(kafka)) as producer:
        for number in range(40):
            user = f"u{number % 5}"
            producer.send(Action(event_id=f"e{number}", user_id=user, item_id="i", action="like", ts_ms=number))
    assert producer.counts.delivered == 40
    store = StoreSettings(folder=tmp_path / "state", actions=("like",), session_gap_seconds=0)
    with WorkerThread(kafka, topics, store) as worker:
        wait_until("all applied", lambda: worker.settled(40, 2))
    assert len(list(read_topic(kafka, topics.samples))) >= 5
    assert list_dead_letters(kafka, topics, 10, wait_seconds=0.5) == []
    connect_consumer(kafka).close()
    catalogue = Catalogue(kafka, topics.items)
    catalogue.start()
    wait_until("catalogue is read", lambda: catalogue.ready)
    catalogue.stop()


@pytest.mark.kafka
def test_a_wrong_password_is_one_clear_line(secured: KafkaSettings, tmp_path: Path) -> None:
    """The worker tries for ever, or the message says that no broker runs."""
    kafka = replace(secured, sasl_password="wrong")
    with pytest.raises(SetupError, match=r"refuses .*check kafka.sasl_username and sasl_password") as caught:
        create_topics(kafka, TopicSettings())
    assert "\n" not in str(caught.value)
    with pytest.raises(SetupError, match=r"check kafka.sasl_username and sasl_password"):
        run_worker(kafka, TopicSettings(), StoreSettings(folder=tmp_path), WorkerSettings())


@pytest.mark.kafka
def test_an_unknown_certificate_is_one_clear_line(secured: KafkaSettings, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with pytest.raises(SetupError, match=r"CERTIFICATE_VERIFY_FAILED.*check kafka.ssl_ca_file"):
        create_topics(replace(secured, ssl_ca_file=other, connect_seconds=2.0), TopicSettings())

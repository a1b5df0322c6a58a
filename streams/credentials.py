"""What Faust is told of how to prove who we are to the brokers."""

from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from streams.kafka_clients import tls_context
from streams.kafka_settings import KafkaSettings


def faust_credentials(kafka: KafkaSettings) -> CredentialsT | None:
    """Credentials for `faust.App`; raises `SetupError` where a certificate cannot be read."""
    if kafka.uses_sasl:
        return SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            mechanism=kafka.sasl_mechanism,
            ssl_context=tls_context(kafka) if kafka.uses_tls else None,
        )
    return SSLCredentials(tls_context(kafka)) if kafka.uses_tls else None

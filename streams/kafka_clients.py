"""What Kafka's clients are told of the brokers: one place for kafka-python, aiokafka and, through it, Faust."""

import ssl
from typing import Any

from storage.errors import SetupError
from streams.kafka_settings import KafkaSettings


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments that every client of kafka-python and of aiokafka takes; raises as `security_options`."""
    return {"bootstrap_servers": list(kafka.bootstrap_servers), **security_options(kafka)}


def security_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Those of them that say how to prove who we are; raises `SetupError` where a certificate cannot be read."""
    options: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if kafka.uses_tls:
        options["ssl_context"] = tls_context(kafka)
    if kafka.uses_sasl:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password
    return options


def tls_context(kafka: KafkaSettings) -> ssl.SSLContext:
    """The settings' certificates, ready for use; raises `SetupError` where one cannot be read."""
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file)
        if kafka.ssl_cert_file is not None:
            context.load_cert_chain(kafka.ssl_cert_file, kafka.ssl_key_file, _no_password)
    except (OSError, ValueError) as error:
        files = [str(file) for file in (kafka.ssl_ca_file, kafka.ssl_cert_file, kafka.ssl_key_file) if file]
        raise SetupError(
            f"TLS cannot be set up with {', '.join(files)} ({error}); check kafka.ssl_ca_file, ssl_cert_file and "
            "ssl_key_file: PEM, the key not encrypted"
        ) from error
    context.check_hostname = kafka.ssl_check_hostname
    return context


def _no_password() -> str:
    # Without it OpenSSL would ask at the terminal.
    raise ValueError("the key is encrypted")

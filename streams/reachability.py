"""Whether a broker answers, and why not: kafka-python tries again and again and keeps the cause to itself."""

import asyncio
import ssl
import time

from aiokafka.conn import create_conn  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import (  # type: ignore[import-untyped]  # as above
    BrokerResponseError,
    KafkaError,
    SaslAuthenticationFailed,
)

from storage.errors import SetupError
from streams.kafka_clients import security_options
from streams.kafka_settings import KafkaSettings

RETRY_SECONDS = 0.1
"""Pause between attempts to connect."""


def await_broker(kafka: KafkaSettings) -> None:
    """Return once a broker has let us in.

    Raises `SetupError` at once where one refuses us or shows a certificate that is not trusted, and after
    `connect_seconds` where none answers. Not to be called on a running event loop.
    """
    asyncio.run(_await_broker(kafka))


def no_answer(kafka: KafkaSettings, error: BaseException) -> SetupError:
    """What to say where no broker answers."""
    detail = " ".join(str(error).split()) or type(error).__name__
    return SetupError(
        f"no answer from Kafka at {_servers(kafka)} ({detail}); start a broker there, set kafka.bootstrap_servers, or "
        f"kafka.security_protocol, if its listener does not speak {kafka.security_protocol}"
    )


async def _await_broker(kafka: KafkaSettings) -> None:
    deadline = time.monotonic() + kafka.connect_seconds
    options = security_options(kafka)
    while True:
        for address in kafka.bootstrap_servers:
            try:
                await _connect(kafka, address, options)
            except ssl.SSLError as error:
                raise SetupError(
                    f"no TLS connection with Kafka at {address} ({error}); check kafka.ssl_ca_file, ssl_cert_file, "
                    "ssl_check_hostname and security_protocol"
                ) from error
            except BrokerResponseError as error:
                raise _refused(kafka, address, error) from error
            except (KafkaError, OSError) as error:
                if time.monotonic() > deadline:
                    raise no_answer(kafka, error) from error
            else:
                return
        await asyncio.sleep(RETRY_SECONDS)


async def _connect(kafka: KafkaSettings, address: str, options: dict[str, object]) -> None:
    host, _, port = address.rpartition(":")
    milliseconds = int(kafka.connect_seconds * 1000)
    connection = await create_conn(host.strip("[]"), int(port), request_timeout_ms=milliseconds, **options)
    await connection.close()


def _refused(kafka: KafkaSettings, address: str, error: BrokerResponseError) -> SetupError:
    detail = " ".join(str(error).split())
    if isinstance(error, SaslAuthenticationFailed):
        advice = "check kafka.sasl_username and sasl_password"
    else:
        advice = "check kafka.sasl_mechanism and security_protocol"
    return SetupError(f"Kafka at {address} refuses user {kafka.sasl_username!r} ({detail}); {advice}")


def _servers(kafka: KafkaSettings) -> str:
    return ", ".join(kafka.bootstrap_servers)

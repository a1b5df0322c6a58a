"""Who may ask a worker, and over what."""

import asyncio
from pathlib import Path

import httpx
import pytest

from deploy.sequences import SequenceClient, SequenceUnavailableError
from deploy.verify import WorkerSequences
from storage.errors import SetupError
from storage.store_settings import StoreSettings
from streams.http_access import HttpAccess, server_context
from streams.ownership import FORWARDED, OWNER
from streams.worker_settings import WorkerSettings
from tests.brokers import Broker, fresh_topics, wait_until
from tests.certificates import own_certificate
from tests.streams.test_worker import ACTIONS, make_events, send_events
from tests.streams.workers import WorkerThread

USERS = [f"user-{number}é" for number in range(40)]


def test_without_the_token_nobody_reads_what_users_did(tansu: Broker, tmp_path: Path) -> None:
    """Whoever reaches the port, or listens on the line, would have every user's history."""
    kafka, topics = fresh_topics(tansu, num_partitions=2)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, session_gap_seconds=0)
    send_events(kafka, topics, make_events(21, 100))
    chain, key = own_certificate(tmp_path)
    safe = {"token": "secret", "tls_certificate": chain, "tls_key": key}
    with WorkerThread(kafka, topics, store, **safe) as first, WorkerThread(kafka, topics, store, **safe) as second:
        wait_until("each holds one", lambda: first.settled(100, 2) or _shared(first, second), 90)
        assert first.url.startswith("https://")
        trust = first.access.trust()
        for path in ("/sequence", "/state", "/metrics", "/metrics/", "/nowhere"):
            for headers in ({}, {"Authorization": "Bearer Secret"}, {FORWARDED: "1"}):
                answer = httpx.get(first.url + path, params={"user_id": "u"}, headers=headers, verify=trust)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert httpx.get(first.url + "/live", verify=trust).status_code == httpx.codes.OK
        assert httpx.get(first.url + "/ready", verify=trust).status_code == httpx.codes.OK
        wait_until("each holds one", lambda: _shared(first, second), 90)
        answers = [first.get("/sequence", user_id=user_id) for user_id in USERS]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers.get(OWNER) for answer in answers} == {None, second.url}
        urls = (first.url, second.url)
        assert asyncio.run(_read(urls, HttpAccess(token="secret", certificate=chain))) == len(USERS)
        with pytest.raises(SequenceUnavailableError, match="answered 401"):
            asyncio.run(_read(urls, HttpAccess(token="other", certificate=chain)))
        with WorkerSequences(urls, first.access) as source:
            assert source.epoch(0) == 0


def _shared(*workers: WorkerThread) -> bool:
    return [len(worker.state().get("partitions", {})) for worker in workers] == [1, 1]


async def _read(urls: tuple[str, ...], access: HttpAccess) -> int:
    client = SequenceClient(urls, timeout_seconds=10, access=access)
    try:
        return len([await client.read(user_id) for user_id in USERS])
    finally:
        await client.aclose()


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    """A stack trace of OpenSSL's does not say which file it is."""
    chain, key = own_certificate(tmp_path)
    with pytest.raises(SetupError, match=r"key\.pem cannot be read as certificates"):
        HttpAccess(certificate=key).trust()
    with pytest.raises(SetupError, match=r"TLS cannot be set up with .*none\.pem and .*key\.pem"):
        server_context(tmp_path / "none.pem", key)
    assert HttpAccess().trust() is True
    assert server_context(chain, key).check_hostname is False


def test_a_worker_over_tls_says_so_to_the_others(tmp_path: Path) -> None:
    """The others would ask it in plain text and take it for dead."""
    safe = WorkerSettings(web_port=1, tls_certificate=tmp_path / "chain.pem", tls_key=tmp_path / "key.pem")
    assert safe.url == "https://127.0.0.1:1"
    assert "secret" not in repr(WorkerSettings(token="secret"))
    with pytest.raises(ValueError, match="tls_certificate and tls_key must be both set or both left out"):
        WorkerSettings(tls_key=tmp_path / "key.pem")
    with pytest.raises(ValueError, match="token must be ASCII without spaces"):
        WorkerSettings(token="a b")

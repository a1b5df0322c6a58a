import pytest
from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]  # aiokafka ships no types
from faust.transport.drivers import aiokafka as driver

from streams import chunks


def test_the_names_of_faust_that_are_overridden_exist() -> None:
    """A new Faust calls another method, and chunks silently become single records again."""
    chunks.check_private_names()
    for name in ("getmany", "perform_seek", "on_buffer_full", "seek_wait", "_new_offset", "_new_consumer_thread"):
        assert callable(getattr(driver.Consumer, name))
        assert getattr(chunks.ChunkConsumer, name) is not None
    assert "_new_offset" in vars(chunks.ChunkConsumer)
    assert callable(driver.AIOKafkaConsumerThread._create_worker_consumer)


def test_a_faust_without_them_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_PRIVATE_NAMES", ((driver.Consumer, "_gone"),))
    with pytest.raises(ImportError, match=r"no Consumer._gone: install faust-streaming~=0.15.3"):
        chunks.check_private_names()


def test_the_names_of_aiokafka_that_are_set_exist() -> None:
    """Fetches wait a second and a half again, or aborted records come through."""
    source = AIOKafkaConsumer.__init__.__code__.co_names
    assert {"_fetch_max_wait_ms", "_isolation_level"} <= set(source)

"""Stores in the test's folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from tests.storage.plain import StoreFactory


@pytest.fixture
def store_factory(tmp_path: Path) -> Iterator[StoreFactory]:
    """Opens the store of a partition in the test's folder, by default a small one; closes it at the end."""
    opened: list[SequenceStore] = []

    def open_store(
        *, topic: str = "events", partition: int = 0, num_partitions: int = 2, topic_id: str = "t1", **settings: Any
    ) -> SequenceStore:
        defaults: dict[str, Any] = {"folder": tmp_path, "cap": 1_100, "sample_exposures": 5}
        chosen = StoreSettings(**(defaults | settings))
        store = SequenceStore.open(
            chosen, topic=topic, partition=partition, num_partitions=num_partitions, topic_id=topic_id
        )
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()

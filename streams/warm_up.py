"""Compiled code, loaded or made before a worker joins its group: no chunk waits for it."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from storage.entries import MANY_ROWS
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.decoding import ChunkDecoder
from streams.events import Action, Impression, encode_event

PATIENCE_SECONDS = 2.0
"""Seconds after which it is said what took them."""

logger = logging.getLogger(__name__)


class _Record(NamedTuple):
    offset: int
    value: bytes
    key: bytes = b"u"
    timestamp: int = 1


def warm_up(actions: Sequence[str]) -> None:
    """Take a few events through a store that is opened again and read from, and deleted."""
    started = time.monotonic()
    logger.info("loading compiled code; the first start after an installation makes it, which takes half a minute")
    items = [f"i{number}" for number in range(MANY_ROWS + 1)]
    shown = Impression(user_id="u", ts_ms=1, items=items, request_id="r", event_id="e")
    acted = Action(user_id="u", ts_ms=2, item_id=items[0], action=actions[0], value=1.0, request_id="r", event_id="f")
    with TemporaryDirectory() as folder:
        settings = StoreSettings(folder=Path(folder), actions=tuple(actions), sample_every=1)
        store = _opened(settings)
        store.prepare_samples(1)
        records = [_Record(0, encode_event(shown)), _Record(1, encode_event(acted))]
        changes, columns = ChunkDecoder(actions).decode(records)
        store.apply(0, 1, changes, columns)
        store.close()
        store = _opened(settings)
        store.read("u")
        store.close()
    seconds = time.monotonic() - started
    if seconds > PATIENCE_SECONDS:
        logger.info("compiled code was made in %.0f s", seconds)


def _opened(settings: StoreSettings) -> SequenceStore:
    return SequenceStore.open(settings, topic="warm-up", partition=0, num_partitions=1, topic_id="warm-up")

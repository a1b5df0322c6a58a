"""What a store must agree on with whoever opens it, and where in the log it stands."""

import logging
from typing import Any

import msgspec

from storage.database import Database, new_batch
from storage.errors import StateError
from storage.keys import LOG, former_log_key
from storage.store_settings import StoreSettings

FORMAT_VERSION = 2

logger = logging.getLogger(__name__)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the log that shapes a store's contents."""

    format_version: int = FORMAT_VERSION
    topic: str
    partition: int
    num_partitions: int
    actions: tuple[str, ...]
    cap: int
    attribution_seconds: float
    exposure_rate: float
    sample_every: int
    sample_exposures: int
    label_delay_seconds: float
    session_gap_seconds: float


class LogState(msgspec.Struct, kw_only=True):
    """Where in the log a store stands."""

    topic_id: str
    epoch: int = 0
    """How often the topic was made anew."""
    applied: int = -1
    """Offset of the last applied record of this epoch."""
    num_users: int = 0
    num_timers: int = 0
    watermark_ms: int = 0
    """Newest event time of a record."""


_log_decoder = msgspec.msgpack.Decoder(LogState)


def make_header(settings: StoreSettings, *, topic: str, partition: int, num_partitions: int) -> Header:
    """The header of a store with these settings."""
    return Header(
        topic=topic,
        partition=partition,
        num_partitions=num_partitions,
        actions=settings.actions,
        cap=settings.cap,
        attribution_seconds=settings.attribution_seconds,
        exposure_rate=settings.exposure_rate,
        sample_every=settings.sample_every,
        sample_exposures=settings.sample_exposures,
        label_delay_seconds=settings.label_delay_seconds,
        session_gap_seconds=settings.session_gap_seconds,
    )


def check_header(stored: bytes, expected: Header, place: str) -> None:
    """Raise `StateError` with every difference between the stored header and the expected one."""
    found = msgspec.msgpack.decode(stored, type=dict[str, Any])
    wanted: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(expected))
    differences = [
        f"{name} is {_text(found.get(name))} there and {_text(wanted.get(name))} in the settings"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differences:
        raise StateError(f"state in {place} was made otherwise: {'; '.join(differences)}; {_remedy(found, wanted)}")


def log_state(db: Database, *, topic: str, topic_id: str) -> LogState:
    """Where a database stands in the log of this id: at its beginning, in a new epoch, where it was of another one."""
    stored = db.get(LOG)
    if stored is None:
        return LogState(topic_id=topic_id)
    log = _log_decoder.decode(stored)
    if log.topic_id == topic_id:
        return log
    logger.warning(
        "topic %s was made anew (id %s, formerly %s): epoch %d begins at offset 0, sequences are kept",
        topic,
        topic_id,
        log.topic_id,
        log.epoch + 1,
    )
    # What the outbox still holds of that epoch goes out under the id it had.
    batch = new_batch()
    batch.put(former_log_key(log.epoch), log.topic_id.encode())
    db.write(batch)
    return msgspec.structs.replace(log, topic_id=topic_id, epoch=log.epoch + 1, applied=-1)


def _text(value: Any) -> str:
    return "(" + ", ".join(map(repr, value)) + ")" if isinstance(value, list) else repr(value)


def _remedy(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    if found.get("format_version") != wanted["format_version"]:
        return "use the version of Headwater that made it, or delete the state folder and replay the log"
    if found.get("num_partitions") != wanted["num_partitions"]:
        return (
            "another partition count moves users between stores: delete the state folder with its checkpoints "
            "and replay the log from its beginning"
        )
    return "use the former settings, or delete the state folder with its checkpoints and replay the log"

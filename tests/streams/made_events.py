"""A log of `events` written by hand, and workers that have folded it rightly, for the tests of `verify`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from storage.entries import pack_position
from storage.store_settings import StoreSettings
from streams.events import Action, Event, Impression, Tick, encode_event
from streams.expected import ExpectedState
from streams.kafka_settings import KafkaSettings
from streams.plain_fold import FoldRules
from streams.topics import TopicSettings
from tests.streams.made_samples import LOG_ID

RULES = FoldRules.of(
    StoreSettings(actions=("like", "dislike"), cap=100, sample_every=1, sample_exposures=50, session_gap_seconds=0)
)
OLD = pack_position(0, 3)
"""A position of a former epoch."""
KAFKA, TOPICS = KafkaSettings(), TopicSettings()


class Record(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp: int = 1_000_000


class Log:
    """The topic `events`, written by hand."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.ends = [0, 0]

    def add(self, event: Event | bytes, *, partition: int = 0, key: bytes | None = None) -> None:
        if not isinstance(event, bytes):
            key = None if isinstance(event, Tick) else event.user_id.encode()
            event = encode_event(event)
        self.records.append(Record(partition, self.ends[partition], key, event))
        self.ends[partition] += 1

    def expected(self, epoch: int = 0) -> ExpectedState:
        state = ExpectedState(RULES, LOG_ID)
        for record in self.records:
            state.apply(record, epoch)
        return state


def the_log() -> Log:
    """Ada is shown three films, acts on them, is shown one more; Bob has one of each; two records are bad."""
    log = Log()
    for place, item in enumerate(["a", "b", "c"]):
        log.add(Impression(user_id="ada", ts_ms=10 * place, items=[item, f"{item}2"]))
        log.add(Action(user_id="ada", ts_ms=10 * place, item_id=item, action="like", value=4.0))
    log.add(b"{", key=b"ada")
    log.add(Impression(user_id="bob", ts_ms=5, items=["a"]), partition=1)
    log.add(Action(user_id="bob", ts_ms=6, item_id="a", action="dislike"), partition=1)
    log.add(Tick(ts_ms=7), partition=1)
    log.add(Impression(user_id="ada", ts_ms=99, items=["d"]))
    log.add(b"", key=b"bob", partition=1)
    return log


COLUMNS = ("item_ids", "ts_ms", "actions", "groups", "indexes")


class Workers:
    """The sequences as right workers have them; `rows` may be damaged: item, time, actions, values, group, index."""

    def __init__(self, expected: ExpectedState) -> None:
        self.rows: dict[str, list[list[Any]]] = {
            user_id: [
                [e.row.item_id, e.row.ts_ms, e.actions, e.values, *e.place] for e in user.sequence(expected.rules)[0]
            ]
            for _, user_id, user in expected.users()
        }
        self.kept = True
        self.asked: dict[str, int] = {}

    def epoch(self, partition: int) -> int:
        return 0

    def wait_applied(self, last_offsets: Mapping[int, int]) -> None:
        pass

    def sequence(self, user_id: str, until: int) -> Mapping[str, Any] | None:
        self.asked[user_id] = until
        if not self.kept:
            return None
        rows = self.rows[user_id]
        valued = [(place, *value) for place, row in enumerate(rows) for value in row[3]]
        columns = [[row[column] for row in rows] for column in (0, 1, 2, 4, 5)]
        return dict(zip(COLUMNS, columns, strict=True)) | {"valued": valued}

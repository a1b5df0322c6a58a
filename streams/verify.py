"""`verify`: the log, read by a plain consumer, held against the workers' sequences and the learner's ranges."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from storage.entries import pack_position
from streams.dead_letters import list_dead_letters
from streams.events import Impression, InvalidEventError, Tick, decode_event
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.plain_fold import FoldRules, PlainUser
from streams.plain_log import read_topic
from streams.topics import TopicSettings

Columns: TypeAlias = Mapping[str, Any]
"""A user's sequence as the worker's endpoint gives it."""


@dataclass(slots=True)
class ExpectedState:
    """What the log says: users, refused records, the last offset of each partition."""

    users: dict[str, PlainUser] = field(default_factory=dict)
    refused: dict[tuple[int, int], str] = field(default_factory=dict)
    """Cause of each refused record, by (partition, offset)."""
    last_offsets: dict[int, int] = field(default_factory=dict)
    due_offsets: dict[int, int] = field(default_factory=dict)
    """Offset of the newest record of each partition that made a sample due."""
    events: int = 0
    impressions: int = 0

    def apply(self, record: Any, epoch: int, rules: FoldRules) -> None:
        """Take in one record of the topic `events`."""
        self.last_offsets[record.partition] = record.offset
        try:
            event = decode_event(record.key, record.value, record.timestamp, frozenset(rules.actions))
        except InvalidEventError as error:
            self.refused[record.partition, record.offset] = error.cause
            return
        self.events += 1
        self.impressions += isinstance(event, Impression)
        if isinstance(event, Tick):
            return
        position = pack_position(epoch, record.offset)
        user = self.users.setdefault(event.user_id, PlainUser())
        user.apply(event, position, rules)
        if user.due_position == position:
            self.due_offsets[record.partition] = record.offset


@dataclass(kw_only=True, slots=True)
class VerifyReport:
    """What was compared and what was found; all is well where every finding is 0."""

    users: int = 0
    events: int = 0
    """Valid records of the log."""
    impressions: int = 0
    """Impressions among them."""
    missing: int = 0
    """Events that the log holds and a sequence lacks."""
    duplicated: int = 0
    """Events that a sequence holds more often than the log."""
    out_of_order: int = 0
    """Users whose sequence holds the right events in another order."""
    different: int = 0
    """Events whose time, actions or value differ."""
    samples_lost: int = 0
    """Records whose sample is due and whose range was not learned."""
    samples_learned_twice: int = 0
    """Records, or ranges, that were learned more than once."""
    pending: int = 0
    """Records whose sample is not due yet."""
    dead_letters: int = 0
    """Refused records of the log."""
    dead_letters_missing: int = 0
    """Refused records that are not in the dead-letter topic, or stand there under another cause."""
    dead_letters_by_cause: dict[str, int] = field(default_factory=dict)

    @property
    def findings(self) -> dict[str, int]:
        """The figures that must be 0."""
        names = ("missing", "duplicated", "out_of_order", "different", "samples_lost", "samples_learned_twice")
        return {name: getattr(self, name) for name in (*names, "dead_letters_missing")}

    @property
    def is_exact(self) -> bool:
        """Whether nothing was found."""
        return not any(self.findings.values())


class SequenceSource(Protocol):
    """Where the workers' sequences come from."""

    def epoch(self, partition: int) -> int:
        """Log epoch of a partition."""

    def wait_applied(self, last_offsets: Mapping[int, int]) -> None:
        """Return once every partition has applied its last offset; raises `SetupError` after a while."""

    def sequence(self, user_id: str) -> Columns:
        """A user's whole sequence."""


def expected_state(
    kafka: KafkaSettings, topics: TopicSettings, rules: FoldRules, epoch_of: Callable[[int], int]
) -> ExpectedState:
    """Fold the whole topic `events` the plain way."""
    expected = ExpectedState()
    epochs: dict[int, int] = {}
    for record in read_topic(kafka, topics.events):
        if record.partition not in epochs:
            epochs[record.partition] = epoch_of(record.partition)
        expected.apply(record, epochs[record.partition], rules)
    return expected


def compare_sequences(expected: ExpectedState, source: SequenceSource, report: VerifyReport) -> None:
    """Hold every user's sequence against the log."""
    for user_id, user in expected.users.items():
        wanted = {(event.group, event.index): event for event in user.sequence()}
        columns = source.sequence(user_id)
        found = list(zip(columns["groups"], columns["indexes"], strict=True))
        # Events of a former epoch are kept by the store but gone from the log.
        oldest = min((group for group, _ in wanted), default=0) >> 48 << 48
        found = [key for key in found if key[0] >= oldest]
        counts = Counter(found)
        report.missing += sum(key not in counts for key in wanted)
        report.duplicated += sum(count - 1 for count in counts.values()) + sum(key not in wanted for key in counts)
        report.out_of_order += set(found) == set(wanted) and list(dict.fromkeys(found)) != list(wanted)
        report.different += _different(wanted, columns)


def compare_learned(expected: ExpectedState, learned: LearnedRanges, report: VerifyReport) -> None:
    """Hold the learned ranges of every user against the due ones."""
    for user_id, user in expected.users.items():
        row = learned.of(user_id)
        report.samples_lost += max(0, user.due_records - row["records"], row["gaps"])
        report.samples_learned_twice += max(0, row["records"] - user.due_records, row["overlaps"])
        report.pending += user.pending_records


def compare_dead_letters(
    expected: ExpectedState, kafka: KafkaSettings, topics: TopicSettings, report: VerifyReport
) -> None:
    """Hold the dead-letter topic against the refused records of the log."""
    limit = max(1, 2 * len(expected.refused))
    letters = {(letter.partition, letter.offset): letter.cause for letter in list_dead_letters(kafka, topics, limit)}
    report.dead_letters = len(expected.refused)
    report.dead_letters_missing = sum(letters.get(place) != cause for place, cause in expected.refused.items())
    report.dead_letters_by_cause = dict(sorted(Counter(expected.refused.values()).items()))


def _different(wanted: Mapping[tuple[int, int], Any], columns: Columns) -> int:
    names = ("groups", "indexes", "item_ids", "ts_ms", "actions", "values")
    differing = 0
    for group, index, *row in zip(*(columns[name] for name in names), strict=True):
        event = wanted.get((group, index))
        differing += event is not None and row != [event.item_id, event.ts_ms, event.actions, event.value]
    return differing

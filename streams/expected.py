"""What the log of `events` says: its records folded the plain way, up to its end as it was when reading began."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from storage.entries import pack_position
from storage.manifest import SampleMark
from streams.events import Action, Forget, Impression, InvalidEventError, Tick, decode_event
from streams.kafka_settings import KafkaSettings
from streams.plain_fold import FoldRules, PlainDue, PlainPartition, PlainUser
from streams.plain_log import first_offsets, read_range, read_topic
from streams.topics import TopicSettings, existing_topic


class Taken(NamedTuple):
    """A record that was stored: its position, its rows, and whether it was an action."""

    position: int
    num_rows: int
    is_action: bool


@dataclass(slots=True)
class ExpectedState:
    """Users, refused records and due samples of all partitions of a log."""

    rules: FoldRules
    topic_id: str
    """Which log it is."""
    partitions: dict[int, PlainPartition] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    """Log epoch of each partition."""
    first_offsets: dict[int, int] = field(default_factory=dict)
    """Where the log of each partition begins, if not at 0."""
    last_offsets: dict[int, int] = field(default_factory=dict)
    due: dict[int, tuple[int, int]] = field(default_factory=dict)
    """(trigger offset, n) of the newest sample that became due in each partition."""
    refused: dict[tuple[int, int], str] = field(default_factory=dict)
    """Cause of each refused record, by (partition, offset)."""
    taken: dict[str, list[Taken]] = field(default_factory=dict)
    """The stored records of each user, of partitions of which only a later part is in the log."""
    events: int = 0
    """Valid records but ticks."""
    impressions: int = 0

    def apply(self, record: Any, epoch: int) -> list[PlainDue]:
        """Take in one record of the topic `events`; returns the samples that it made due."""
        number = record.partition
        partition = self.partitions.setdefault(number, PlainPartition(self.rules))
        self.epochs[number] = epoch
        self.last_offsets[number] = record.offset
        try:
            event = decode_event(record.key, record.value, record.timestamp, frozenset(self.rules.actions))
        except InvalidEventError as error:
            self.refused[number, record.offset] = error.cause
            return []
        self.events += not isinstance(event, Tick)
        self.impressions += isinstance(event, Impression)
        position = pack_position(epoch, record.offset)
        known = partition.users.get(getattr(event, "user_id", ""), PlainUser()).num_records
        due = partition.apply(event, position, record.timestamp)
        if due:
            self.due[number] = record.offset, due[-1].n
        if isinstance(event, Forget):
            self.taken.pop(event.user_id, None)
        if self.begin(number) and isinstance(event, Impression | Action):
            num_rows = partition.users[event.user_id].num_records - known
            if num_rows:
                taken = Taken(position, num_rows, isinstance(event, Action))
                self.taken.setdefault(event.user_id, []).append(taken)
        return due

    @property
    def num_users(self) -> int:
        """Users of whom any record is in the log."""
        return sum(len(partition.users) for partition in self.partitions.values())

    def users(self) -> Iterator[tuple[int, str, PlainUser]]:
        """(partition, user id, user) of all users."""
        for number, partition in sorted(self.partitions.items()):
            for user_id, user in partition.users.items():
                yield number, user_id, user

    def begin(self, partition: int) -> int:
        """Position at which a partition's log begins; what a store keeps of before is gone from there."""
        return pack_position(self.epochs[partition], self.first_offsets.get(partition, 0))

    def end(self, partition: int) -> int:
        """Position of the newest record of a partition."""
        return pack_position(self.epochs[partition], self.last_offsets[partition])

    def is_of_log(self, partition: int, mark: SampleMark) -> bool:
        """Whether a mark is of a sample of this log; one without a topic id is told by its epoch."""
        is_same = mark.topic_id == self.topic_id if mark.topic_id else mark.epoch == self.epochs.get(partition)
        return is_same and partition in self.epochs

    def read_on(self, kafka: KafkaSettings, topics: TopicSettings, marks: Mapping[int, SampleMark]) -> None:
        """Fold on up to the samples of these marks, and take nothing for due that lies behind them."""
        beyond = {
            number: mark.trigger_offset
            for number, mark in marks.items()
            if self.is_of_log(number, mark) and mark.trigger_offset > self.last_offsets[number]
        }
        if not beyond:
            return
        start = {number: self.last_offsets[number] + 1 for number in beyond}
        for record in read_range(kafka, topics.events, start, beyond):
            for due in self.apply(record, self.epochs[record.partition]):
                mark = marks[record.partition]
                if (record.offset, due.n) > (mark.trigger_offset, mark.n):
                    self.partitions[record.partition].users[due.user_id].due_records -= due.num_records


def expected_state(
    kafka: KafkaSettings, topics: TopicSettings, rules: FoldRules, epoch_of: Callable[[int], int]
) -> ExpectedState:
    """Fold the whole topic `events` the plain way, up to its present end."""
    topic_id = existing_topic(kafka, topics.events).topic_id
    expected = ExpectedState(rules, topic_id, first_offsets=first_offsets(kafka, topics.events))
    epochs: dict[int, int] = {}
    for record in read_topic(kafka, topics.events):
        if record.partition not in epochs:
            epochs[record.partition] = epoch_of(record.partition)
        expected.apply(record, epochs[record.partition])
    return expected

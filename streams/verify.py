"""`verify`: the log, read by a plain consumer, held against the workers' sequences and the learner's ranges.

Where the store began before the log does (the topic was made anew, or records expired), what it keeps of before cannot
be told from the log: of users with such events only what this log's records alone decide is compared.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from streams.dead_letters import read_dead_letters
from streams.expected import ExpectedState, Taken
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.plain_fold import FoldRules, PlainEvent
from streams.topics import TopicSettings

Columns: TypeAlias = Mapping[str, Any]
"""A user's sequence as the worker's endpoint gives it."""
Place: TypeAlias = tuple[int, int]
"""(group, index) of an event."""


@dataclass(kw_only=True, slots=True)
class VerifyReport:
    """What was compared and what was found; all is well where every finding is 0."""

    users: int = 0
    events: int = 0
    """Valid records of the log but ticks."""
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
    duplicates: int = 0
    """Records that came again, told by their event ids; they change nothing."""
    too_late: int = 0
    """Records older than everything that a full sequence keeps; they change nothing."""
    capped_out: int = 0
    """Events that left a sequence because it was full."""
    sampled_out: int = 0
    """Exposures without an action that were left out by the exposure rate."""
    moved_on: int = 0
    """Users whose sequences as of the log's end were not kept any more when they were asked for; not compared."""
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

    def sequence(self, user_id: str, until: int) -> Columns | None:
        """A user's whole sequence as of a position; None where that is no longer kept."""


class _Row(NamedTuple):
    """One event of a sequence as a worker tells it."""

    place: Place
    item_id: str
    ts_ms: int
    actions: int
    values: list[tuple[int, float]]
    """(action, value), the newest last."""


def compare_sequences(expected: ExpectedState, source: SequenceSource, report: VerifyReport) -> set[str]:
    """Hold every user's sequence against the log; returns the users who have events from before the log begins."""
    known_before = set()
    for partition, user_id, user in expected.users():
        events, sampled_out = user.sequence(expected.rules)
        report.duplicates += user.duplicates
        report.too_late += user.too_late
        report.capped_out += user.capped_out
        report.sampled_out += sampled_out + user.sampled_out
        columns = source.sequence(user_id, expected.end(partition))
        if columns is None:
            report.moved_on += 1
            continue
        rows = _rows(columns)
        own = [row for row in rows if row.place[0] >= expected.begin(partition)]
        former = [row for row in rows if row.place[0] < expected.begin(partition)]
        if former:
            known_before.add(user_id)
        is_full = len(rows) >= expected.rules.cap
        _compare(events, own, former, report, is_full=is_full)
    return known_before


def compare_learned(
    expected: ExpectedState, learned: LearnedRanges, report: VerifyReport, known_before: Iterable[str] = ()
) -> None:
    """Hold the learned ranges of every user against the due ones."""
    lenient = set(known_before)
    for partition, user_id, user in expected.users():
        row = learned.of(user_id, expected.topic_id)
        report.pending += user.pending_records
        if not expected.begin(partition):
            lost, twice = user.due_records - row["records"], row["records"] - user.due_records
        else:
            taken = expected.taken.get(user_id, [])
            # Of a log whose first records have expired, nobody knows which of the learned ones they were.
            is_lenient = user_id in lenient or partition in expected.first_offsets
            lost, twice = _part(taken, row, expected.begin(partition), expected.rules, lenient=is_lenient)
        is_of_log = row["position"] >= expected.begin(partition)
        report.samples_lost += max(0, lost, row["gaps"] * is_of_log)
        report.samples_learned_twice += max(0, twice, row["overlaps"] * is_of_log)


def compare_dead_letters(
    expected: ExpectedState, kafka: KafkaSettings, topics: TopicSettings, report: VerifyReport
) -> None:
    """Hold the dead-letter topic against the refused records of the log."""
    letters = {
        (letter.partition, letter.offset): letter.cause
        for letter in read_dead_letters(kafka, topics)
        if letter.topic == topics.events
    }
    report.dead_letters = len(expected.refused)
    report.dead_letters_missing = sum(letters.get(place) != cause for place, cause in expected.refused.items())
    report.dead_letters_by_cause = dict(sorted(Counter(expected.refused.values()).items()))


def _rows(columns: Columns) -> list[_Row]:
    values: dict[int, list[tuple[int, float]]] = {}
    for place, action, value in columns["valued"]:
        values.setdefault(place, []).append((action, value))
    names = ("groups", "indexes", "item_ids", "ts_ms", "actions")
    rows = zip(*(columns[name] for name in names), strict=True)
    return [
        _Row((group, index), item_id, ts_ms, actions, values.get(place, []))
        for place, (group, index, item_id, ts_ms, actions) in enumerate(rows)
    ]


def _compare(
    events: Sequence[PlainEvent], own: Sequence[_Row], former: Sequence[_Row], report: VerifyReport, *, is_full: bool
) -> None:
    wanted = {event.place: event for event in events}
    counts = Counter(row.place for row in own)
    lacking = [event for place, event in wanted.items() if place not in counts]
    if former:
        lacking = [event for event in lacking if not (is_full or _is_explained(event, former))]
    report.missing += len(lacking)
    report.duplicated += sum(count - 1 for count in counts.values()) + sum(place not in wanted for place in counts)
    both = [place for place in counts if place in wanted]
    report.out_of_order += both != [place for place in wanted if place in counts]
    for row in own:
        if row.place in wanted:
            event = wanted[row.place]
            differs = (row.item_id, row.ts_ms) != (event.row.item_id, event.row.ts_ms)
            # An action may have gone to an exposure of before.
            differs |= not former and (row.actions, row.values) != (event.actions, event.values)
            report.different += differs


def _is_explained(event: PlainEvent, former: Sequence[_Row]) -> bool:
    """Whether an event is none of its own beside those of before: it came again, or acts on what was shown then."""
    same_item = [row for row in former if row.item_id == event.row.item_id]
    return any(row.ts_ms == event.row.ts_ms or not event.shown for row in same_item)


def _part(
    taken: Sequence[Taken], row: Mapping[str, int], begin: int, rules: FoldRules, *, lenient: bool
) -> tuple[int, int]:
    """Records (lost, learned twice) of a user of whom only a later part is in the log.

    `lenient`: some of the records may be duplicates of former ones, or may have been learned with those.
    """
    position, first = max(row["position"], begin - 1), max(row["first"], begin - 1)
    records = row["records"] if row["position"] >= begin else 0
    in_range = sum(each.num_rows for each in taken if first < each.position <= position)
    twice = 0 if lenient and row["first"] < begin else records - in_range
    if lenient:
        return 0, twice
    behind = [each for each in taken if each.position > position]
    return in_range - records + _surely_due(behind, rules), twice


def _surely_due(taken: Sequence[Taken], rules: FoldRules) -> int:
    """Records that are due by their number, whatever was pending before them."""
    due = num_actions = num_exposures = 0
    for each in taken:
        num_actions += each.num_rows if each.is_action else 0
        num_exposures += 0 if each.is_action else each.num_rows
        if num_actions >= rules.sample_every or num_exposures >= rules.sample_exposures:
            due += num_actions + num_exposures
            num_actions = num_exposures = 0
    return due

"""What the log leads to, held against what workers hold and sent: the only place that calls fold and `verify`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from deploy.verify import WorkerSequences
from storage.entries import pack_position
from storage.store_settings import StoreSettings
from streams.expected import expected_state
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.marks import SampleMarks
from streams.plain_fold import FoldRules
from streams.plain_log import read_topic
from streams.samples import decode_sample
from streams.topics import TopicSettings
from streams.verify import VerifyReport, compare_dead_letters, compare_learned, compare_sequences


class Found(NamedTuple):
    """What a comparison found: all `findings` are 0 where nothing was lost or doubled."""

    findings: Mapping[str, int]
    events: int
    users: int
    samples: int
    repeated: int
    """Samples that came more than once, equal each time."""
    told: Mapping[str, int]
    """What changed nothing, or left: duplicates, events that came too late, events beyond the cap."""


class SentSamples:
    """The topic `samples` as a learner takes it, and what a learner does not look at: whether repeats are equal."""

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, bytes], bytes] = {}
        """By topic id and the id in the headers, which a topic made anew may have again."""
        self.ranges = LearnedRanges()
        self.repeated = 0
        self.differing = 0
        self.users: set[str] = set()
        self._marks = SampleMarks()

    def read(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        """Take in the whole topic."""
        for record in read_topic(kafka, topics.samples):
            self.take(record)

    def take(self, record: Any) -> None:
        """Take in one record."""
        sample_id = dict(record.headers)["id"]
        sample = decode_sample(record.value)
        assert record.partition == sample.partition
        assert record.key == sample.user_id.encode()
        assert sample_id == f"{sample.epoch}-{sample.partition}-{sample.trigger_offset}-{sample.n}".encode()
        key = (sample.topic_id, sample_id)
        if key in self.bodies:
            self.repeated += 1
            self.differing += self.bodies[key] != record.value
        self.bodies[key] = record.value
        if self._marks.is_new(sample):
            self._marks.pass_over(sample)
            self.ranges.add(sample, pack_position(sample.epoch, sample.trigger_offset), sample.topic_id)
            self.users.add(sample.user_id)


def compare(
    kafka: KafkaSettings,
    topics: TopicSettings,
    store: StoreSettings,
    urls: tuple[str, ...],
    wait_quiet: Callable[[], None],
) -> tuple[Found, SentSamples]:
    """Hold everything that workers at `urls` have and sent against the log; waits until they have applied it.

    `wait_quiet` returns once nothing moves any more.
    """
    sent = SentSamples()
    wait_quiet()
    with WorkerSequences(urls) as source:
        expected = expected_state(kafka, topics, FoldRules.of(store), source.epoch)
        report = VerifyReport(users=expected.num_users, events=expected.events)
        source.wait_applied(expected.last_offsets)
        known_before = compare_sequences(expected, source, report)
    wait_quiet()
    sent.read(kafka, topics)
    compare_learned(expected, sent.ranges, report, known_before)
    compare_dead_letters(expected, kafka, topics, report)
    others = {"samples_differing": sent.differing, "not_compared": report.moved_on, "not_drained": report.pending}
    told = {"duplicates": report.duplicates, "too_late": report.too_late, "capped_out": report.capped_out}
    findings = {**report.findings, **others}
    return Found(findings, report.events, report.users, len(sent.bodies), sent.repeated, told), sent

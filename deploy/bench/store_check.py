"""Holds the stores that stopped workers left, and the samples they sent, against a plain fold of the log."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from storage.changes import SampleRef
from storage.entries import pack_position
from storage.errors import SetupError
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.expected import ExpectedState
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.partitioning import partition_of
from streams.plain_fold import FoldRules
from streams.plain_log import read_range, read_topic
from streams.samples import decode_sample
from streams.sequence_columns import sequence_columns
from streams.topics import TopicSettings, existing_topic
from streams.verify import Columns, VerifyReport, compare_dead_letters, compare_learned, compare_sequences


class StoppedStores:
    """Sequences from the stores in workers' state folders; to be closed."""

    def __init__(
        self, settings: StoreSettings, folders: Sequence[Path], *, topic: str, topic_id: str, num_partitions: int
    ) -> None:
        """Open the store of each partition that some folder holds."""
        self._num_partitions = num_partitions
        self._stores: dict[int, SequenceStore] = {}
        for partition in range(num_partitions):
            held = [folder for folder in folders if (folder / f"p{partition}").is_dir()]
            if len(held) != 1:
                raise SetupError(
                    f"partition {partition} is in {len(held)} state folders, not in one: nothing to verify"
                )
            self._stores[partition] = SequenceStore.open(
                replace(settings, folder=held[0]),
                topic=topic,
                partition=partition,
                num_partitions=num_partitions,
                topic_id=topic_id,
            )

    def epoch(self, partition: int) -> int:
        """Log epoch of a partition."""
        return self._stores[partition].epoch

    def wait_applied(self, last_offsets: Mapping[int, int]) -> None:
        """Do nothing: the log is read as far as the stores are."""

    @property
    def applied(self) -> dict[int, int]:
        """Offset of the last applied record of each partition."""
        return {partition: store.applied for partition, store in self._stores.items()}

    def unsent(self) -> Iterator[tuple[OutboxKey, SampleRef]]:
        """Samples that became due when the workers were stopping: an idle partition's tick may make some."""
        for store in self._stores.values():
            for key, item in store.outbox(store.outbox_size):
                if isinstance(item, SampleRef):
                    yield key, item

    def sequence(self, user_id: str, until: int) -> Columns:
        """A user's whole sequence as of a position."""
        return sequence_columns(self._stores[partition_of(user_id, self._num_partitions)], user_id, until=until)

    def close(self) -> None:
        """Close all stores."""
        for store in self._stores.values():
            store.close()


def check_stores(
    kafka: KafkaSettings, topics: TopicSettings, settings: StoreSettings, folders: Sequence[Path]
) -> VerifyReport:
    """Compare sequences, ranges of samples and dead letters with what the log says."""
    description = existing_topic(kafka, topics.events)
    stores = StoppedStores(
        settings,
        folders,
        topic=topics.events,
        topic_id=description.topic_id,
        num_partitions=description.num_partitions,
    )
    try:
        expected = ExpectedState(FoldRules.of(settings), description.topic_id)
        _read(kafka, topics, stores, expected)
        report = VerifyReport(users=expected.num_users, events=expected.events, impressions=expected.impressions)
        compare_sequences(expected, stores, report)
        ranges = sent_ranges(kafka, topics)
        for key, ref in stores.unsent():
            ranges.add(ref, key.position, description.topic_id)
    finally:
        stores.close()
    compare_learned(expected, ranges, report)
    compare_dead_letters(expected, kafka, topics, report)
    return report


def _read(kafka: KafkaSettings, topics: TopicSettings, stores: StoppedStores, expected: ExpectedState) -> None:
    last = {partition: offset for partition, offset in stores.applied.items() if offset >= 0}
    for record in read_range(kafka, topics.events, dict.fromkeys(last, 0), last):
        expected.apply(record, stores.epoch(record.partition))


def sent_ranges(kafka: KafkaSettings, topics: TopicSettings) -> LearnedRanges:
    """The ranges of all samples in their topic, as a learner would have learned them."""
    ranges = LearnedRanges()
    for record in read_topic(kafka, topics.samples):
        sample = decode_sample(record.value)
        ranges.add(sample, pack_position(sample.epoch, sample.trigger_offset), sample.topic_id)
    return ranges

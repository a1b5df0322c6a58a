"""The order in which samples are taken follows from the log alone."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types

from model.online import OnlineLearner
from storage.errors import SetupError
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams import log_reader
from streams.learned_model import LearnedModel
from streams.learner_metrics import LearnerMetrics
from streams.learner_settings import LearnerSettings
from streams.log_merge import LogMerge, Placed
from streams.log_reader import PATIENCE_SECONDS, LogReader
from streams.rank_log import RankLog
from streams.samples import encode_sample
from tests.streams.learner_bench import LEARN, MODEL, TOPICS, Clock
from tests.streams.made_samples import CATALOGUE, TOPIC, LogConsumer, Record, SampleLog, make_samples, sample_factory

Times = list[list[int]]
"""Kafka time of each sample's trigger, partition by partition; they need not rise."""
times = st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=4)


def made_log(partitions: Times) -> SampleLog:
    log = SampleLog(len(partitions))
    for number, triggers in enumerate(partitions):
        log.send(
            sample_factory(partition=number, trigger_offset=place, kafka_ms=[trigger])
            for place, trigger in enumerate(triggers)
        )
    return log


def merged(partitions: Times, begin: list[int]) -> list[tuple[int, int]]:
    """(partition, offset) in order, one at a time: of the firsts of all partitions that of the least time."""
    next_offset, order = list(begin), []
    while left := [n for n, triggers in enumerate(partitions) if next_offset[n] < len(triggers)]:
        number = min(left, key=lambda n: (partitions[n][next_offset[n]], n))
        order.append((number, next_offset[number]))
        next_offset[number] += 1
    return order


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LearnedModel:
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path_factory.mktemp("store"))))
    return LearnedModel(OnlineLearner(MODEL, LEARN), store, {TOPIC: "t1", CATALOGUE: "c1"})


@pytest.fixture
def reader_of(model: LearnedModel, monkeypatch: pytest.MonkeyPatch) -> Callable[[LogConsumer], LogReader]:
    """Readers whose time stands still but for polls."""
    monkeypatch.setattr(log_reader, "time", Clock())

    def made(consumer: LogConsumer) -> LogReader:
        reader = LogReader(LearnerSettings(), model, consumer, TOPICS, LearnerMetrics())
        consumer.on_poll = log_reader.time.tick  # type: ignore[attr-defined]  # the clock above
        return reader

    return made


def take_all(reader: LogReader) -> Iterator[Placed]:
    """Poll wherever nothing is known, until the log has no more."""
    for _ in range(1_000):
        placed = reader.take()
        if placed is not None:
            yield placed
        elif not reader.poll(0) and reader.is_drained:
            return
    raise AssertionError("the log has no end")


@given(partitions=times, num_records=st.integers(1, 9), data=st.data())
def test_the_order_is_that_of_the_log(
    model: LearnedModel, partitions: Times, num_records: int, data: st.DataObject
) -> None:
    """A learner that begins again in the middle, or whose broker portions otherwise, would learn in another order."""
    begin = [data.draw(st.integers(0, len(triggers))) for triggers in partitions]
    consumer = LogConsumer(made_log(partitions), num_records=num_records)
    reader = LogReader(LearnerSettings(), model, consumer, TOPICS, LearnerMetrics())
    reader.seek({TopicPartition(TOPIC, number): offset for number, offset in enumerate(begin)})
    taken = [(placed.source.partition, placed.offset) for placed in take_all(reader)]
    assert taken == merged(partitions, begin)


def test_a_partition_that_has_more_holds_the_others_back(reader_of: Callable[[LogConsumer], LogReader]) -> None:
    """What it has would be learned after what happened later, in one run and not in the next."""
    consumer = LogConsumer(made_log([[5, 6], [1, 2]]))
    consumer.held = {TopicPartition(TOPIC, 1)}
    reader = reader_of(consumer)
    reader.seek({})
    reader.poll(0)
    assert reader.take() is None
    assert not reader.is_drained
    consumer.held = set()
    assert [placed.kafka_ms for placed in take_all(reader)] == [1, 2, 5, 6]


def test_a_partition_that_hands_out_nothing_is_left_out_in_the_end(
    reader_of: Callable[[LogConsumer], LogReader], caplog: pytest.LogCaptureFixture
) -> None:
    """One broker that is away would stop the learner for all users."""
    consumer = LogConsumer(made_log([[5, 6], [1, 2]]))
    consumer.held = {TopicPartition(TOPIC, 1)}
    reader = reader_of(consumer)
    reader.seek({})
    with caplog.at_level(logging.WARNING, "streams.log_reader"):
        taken = list(take_all(reader))
    assert [placed.kafka_ms for placed in taken] == [5, 6]
    assert consumer.num_polls > PATIENCE_SECONDS
    assert [record.getMessage() for record in caplog.records] == [
        f"nothing is handed out of {TOPIC}[1]: going on without"
    ]
    consumer.held = set()
    assert [placed.kafka_ms for placed in take_all(reader)] == [1, 2]


def test_waiting_for_one_partition_does_not_read_the_others_whole(
    reader_of: Callable[[LogConsumer], LogReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog of gigabytes would be taken into memory while a broker restarts."""
    monkeypatch.setattr(log_reader, "AHEAD_RECORDS", 4)
    consumer = LogConsumer(made_log([list(range(100)), [1]]), num_records=3)
    consumer.held = {TopicPartition(TOPIC, 1)}
    reader = reader_of(consumer)
    reader.seek({})
    for _ in range(8):
        reader.poll(0)
    assert len(reader) == 6
    consumer.held = set()
    assert len(list(take_all(reader))) == 101


def test_samples_beside_each_other_go_by_partition() -> None:
    """Of equal times any order would do, as long as it is always the same."""
    sources = [TopicPartition(TOPIC, number) for number in range(3)]
    merge = LogMerge(sources, CATALOGUE)
    for number in (2, 0, 1):
        merge.put(sources[number], [Record(number, 0, None, 7), Record(number, 1, None, 7)])
    assert [merge.take().source.partition for _ in range(len(merge))] == [0, 0, 1, 1, 2, 2]
    assert merge.headless == set(sources)


def test_a_sample_tells_when_it_was_written_beside_when_its_trigger_was() -> None:
    """The time that a worker took would be taken for none, and the order of logs for another."""
    source = TopicPartition(TOPIC, 0)
    merge = LogMerge([source], CATALOGUE)
    (sample,) = make_samples(1)
    merge.put(source, [Record(0, 0, encode_sample(sample), 9_999)])
    placed = merge.take()
    assert (placed.kafka_ms, placed.written_ms) == (max(sample.kafka_ms), 9_999)


def test_a_file_of_ranks_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """The learner would end in mid-stream, with an error that names no setting."""
    with pytest.raises(SetupError, match=r"cannot write .*learner\.ranks"):
        RankLog(tmp_path, 0)

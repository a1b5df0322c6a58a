import asyncio

import pytest

from storage.errors import HeadwaterError, LogHoleError, SetupError
from streams import source_positions
from streams.chunks import Bounds, Chunk
from streams.faults import Ending
from streams.kafka_settings import KafkaSettings
from streams.source_positions import SourcePositions
from streams.topics import TopicDescription


class Place:
    """Positions of a topic whose id can be changed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topic_id = "t1"
        monkeypatch.setattr(
            source_positions, "existing_topic", lambda *_: TopicDescription(topic_id=self.topic_id, num_partitions=2)
        )

    def __call__(self, positions: SourcePositions, **bounds: Bounds) -> dict[int, int]:
        found = positions.place({int(name.removeprefix("p")): each for name, each in bounds.items()})
        return dict(asyncio.run(found))


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(monkeypatch)


def positions(start: str = "earliest") -> SourcePositions:
    """Positions of a topic of others."""
    return SourcePositions(KafkaSettings(), "theirs", start, Ending())  # type: ignore[arg-type]  # a literal


def bounds(committed: int | None, earliest: int = 0, end: int = 100, refused: bool = False) -> Bounds:
    return Bounds(earliest=earliest, end=end, committed=committed, refused=refused)


def chunk(partition: int, start: int, last: int) -> Chunk:
    return Chunk(partition=partition, start=start, last=last, records=[])


def test_reading_goes_on_where_the_group_committed(place: Place) -> None:
    """Records are forwarded again at every start, or some never."""
    assert place(positions(), p0=bounds(7), p1=bounds(None, earliest=3)) == {0: 7, 1: 3}
    assert place(positions("latest"), p0=bounds(7), p1=bounds(None)) == {0: 7, 1: 100}


def test_what_was_forwarded_is_what_is_committed(place: Place) -> None:
    """A commit that runs ahead of what the brokers have loses it at the next kill."""
    held = positions()
    place(held, p0=bounds(7))
    assert held.next_offset(0) == 7
    held.forwarded(chunk(0, 7, 11))
    assert held.next_offset(0) == 12
    held.forwarded(chunk(0, 20, 25))
    assert held.next_offset(0) == 12, "a chunk after a hole moves nothing"
    held.forwarded(chunk(0, 5, 9))
    assert held.next_offset(0) == 12, "nor does one that was forwarded before"
    held.forwarded(chunk(1, 0, 5))
    assert held.next_offset(1) is None


def test_a_partition_that_was_away_goes_on_after_what_others_committed(place: Place) -> None:
    held = positions()
    place(held, p0=bounds(0), p1=bounds(0))
    held.forwarded(chunk(0, 0, 9))
    assert place(held, p0=bounds(5)) == {0: 10}, "what was forwarded here and not committed is not forwarded again"
    assert held.held == {0}
    assert place(held, p0=bounds(50), p1=bounds(2)) == {0: 50, 1: 2}


def test_a_topic_made_anew_is_read_from_its_beginning(place: Place) -> None:
    """Offsets of the former topic skip the first records of the new one."""
    held = positions("latest")
    place(held, p0=bounds(40))
    place.topic_id = "t2"
    assert place(held, p0=bounds(40)) == {0: 0}
    assert held.topic_id == "t2"
    assert place(held, p0=bounds(None)) == {0: 0}


@pytest.mark.parametrize(
    ("at", "error", "message"),
    [
        (bounds(7, earliest=9), LogHoleError, "records 7 to 8 of theirs.0. expired before they were forwarded"),
        (bounds(120, refused=True), SetupError, "theirs.0. ends at 100, but was forwarded to 120"),
    ],
)
def test_records_that_cannot_be_forwarded_end_it(
    place: Place, at: Bounds, error: type[HeadwaterError], message: str
) -> None:
    """They would be skipped without a word."""
    with pytest.raises(error, match=message):
        place(positions(), p0=at)


def test_an_end_that_a_broker_reports_too_low_ends_nothing(place: Place) -> None:
    assert place(positions(), p0=bounds(120)) == {0: 120}

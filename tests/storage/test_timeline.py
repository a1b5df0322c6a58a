import numpy as np

from storage.timeline import Timeline, fires_at, timeline, watermark_at


def made(*records: tuple[int, int]) -> Timeline:
    """Records by (position, time) behind a watermark of 5."""
    columns = np.array(records, np.int64).reshape(-1, 2)
    return timeline(5, columns[:, 0].copy(), columns[:, 1])


def test_the_watermark_is_the_newest_time_so_far_and_never_falls() -> None:
    """A late record must not call back timers that fired."""
    line = made((10, 3), (11, 9), (14, 7))
    assert [watermark_at(line, position) for position in (10, 11, 14)] == [5, 9, 9]
    assert line.end_ms == 9


def test_a_timer_fires_after_the_first_record_that_brings_its_time() -> None:
    """A sample's id is the position of its trigger: any other record would be another id."""
    line = made((10, 3), (11, 9), (14, 12))
    assert [fires_at(line, due, -1) for due in (5, 6, 9, 10, 12)] == [10, 11, 11, 14, 14]
    assert fires_at(line, 6, 14) == 14


def test_a_chunk_without_valid_records_moves_nothing() -> None:
    """Refused records have no time."""
    assert made().end_ms == 5

from storage.changes import Ticked
from storage.timeline import Timeline


def test_the_watermark_is_the_newest_time_so_far_and_never_falls() -> None:
    """A late record must not call back timers that fired."""
    timeline = Timeline(5, 0, [Ticked(10, 3), Ticked(11, 9), Ticked(14, 7)])
    assert [timeline.watermark_at(position) for position in (10, 11, 14)] == [5, 9, 9]
    assert timeline.end_ms == 9


def test_a_timer_fires_after_the_first_record_that_brings_its_time() -> None:
    """A sample's id is the position of its trigger: any other record would be another id."""
    timeline = Timeline(5, 0, [Ticked(10, 3), Ticked(11, 9), Ticked(14, 12)])
    assert [timeline.fires_at(due, -1) for due in (5, 6, 9, 10, 12, 13)] == [10, 11, 11, 14, 14, None]
    assert timeline.fires_at(6, 14) == 14


def test_a_chunk_without_valid_records_moves_nothing() -> None:
    """Refused records have no time."""
    timeline = Timeline(5, 0, [])
    assert (timeline.end_ms, timeline.fires_at(6, -1)) == (5, None)

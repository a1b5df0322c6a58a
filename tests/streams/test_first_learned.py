"""When records went through the learner."""

from streams.first_learned import FirstLearned


def test_records_keep_the_times_of_their_sample_and_its_step() -> None:
    """Freshness would blame the wrong part."""
    now_ms = [0]
    first = FirstLearned(lambda: now_ms[0])
    now_ms[0] = 1_001
    first.take([500, 500, 501], written_ms=700)
    now_ms[0] = 1_010
    first.take([600], written_ms=691)
    assert first.num_records == 0
    now_ms[0] = 2_000
    first.learn()
    now_ms[0] = 2_500
    first.take([500], written_ms=700)
    now_ms[0] = 3_000
    first.learn()
    assert first.num_records == 5
    assert first.hand_over() == {(700, 1_010, 2_000): {500: 2, 501: 1, 600: 1}, (700, 2_500, 3_000): {500: 1}}


def test_what_is_taken_but_not_learned_stays_for_the_next_version() -> None:
    """A cut would claim records that its weights do not know."""
    first = FirstLearned(lambda: 10)
    first.take([1], written_ms=2)
    assert (first.hand_over(), first.num_records) == ({}, 0)
    first.learn()
    assert first.hand_over() == {(10, 10, 10): {1: 1}}
    assert (first.hand_over(), first.num_records) == ({}, 0)

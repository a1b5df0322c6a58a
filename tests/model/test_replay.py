import numpy as np

from model.batch import SequenceItems
from model.layout import Integers
from model.replay import ReplayBuffer
from model.user_features import NO_FEATURE
from model.windows import EncodedSequence


def same(keys: Integers) -> SequenceItems:
    """Rows that are named like keys."""
    return SequenceItems(keys, keys)


def sequence_of(row: int, count: int = 3) -> EncodedSequence:
    column = np.full(count, row)
    return EncodedSequence(
        rows=column,
        seconds=np.arange(count),
        actions=np.ones(count, np.int64),
        keys=column,
        features=np.full((count, 2), NO_FEATURE),
        group_starts=np.arange(count),
        new=np.ones(count, np.int64),
        place=np.arange(count),
    )


def test_users_are_drawn_evenly_from_all_that_came() -> None:
    """Recent users alone are worth half as much (LEARNING.md: .169 against .182)."""
    buffer = ReplayBuffer(100, 5, seed=0)
    for user in range(50):
        buffer.put(f"u{user}", sequence_of(user))
    drawn = [int(sequence.rows[0]) for _ in range(1_000) for sequence in buffer.draw(12, same)]
    counts = np.bincount(drawn, minlength=50)
    assert abs(counts - 80).max() < 4.5 * 80**0.5


def test_a_draw_names_no_user_twice_and_no_more_than_there_are() -> None:
    """A step would learn one user twice, or never end."""
    buffer = ReplayBuffer(100, 5, seed=0)
    assert buffer.draw(3, same) == []
    for user in range(3):
        buffer.put(f"u{user}", sequence_of(user))
    assert sorted(int(sequence.rows[0]) for sequence in buffer.draw(10, same)) == [0, 1, 2]


def test_a_draw_holds_so_many_events_whatever_a_user_has() -> None:
    """Where users have few events, so many users as elsewhere would be next to nothing."""
    for length in (1, 5, 20):
        buffer = ReplayBuffer(100, 50, seed=0)
        for user in range(60):
            buffer.put(f"u{user}", sequence_of(user, length))
        assert buffer.draw(0, same) == []
        assert sum(len(sequence.rows) for sequence in buffer.draw(40, same)) == 40
        assert sum(len(sequence.rows) for sequence in buffer.draw(39, same)) == 39 + 1 * (length > 1)


def test_over_capacity_the_choice_of_users_is_even_and_memory_bounded() -> None:
    """First or last comers alone would be replayed; or memory would grow with the users."""
    early = 0
    for seed in range(40):
        buffer = ReplayBuffer(20, 5, seed=seed)
        for user in range(200):
            for _ in range(3):
                buffer.put(f"u{user}", sequence_of(user))
        kept = {int(sequence.rows[0]) for sequence in buffer.draw(1_000, same)}
        assert len(buffer) == len(kept) == 20
        early += sum(user < 100 for user in kept)
    assert 340 < early < 460


def test_the_newest_events_replace_older_ones_and_groups_stay_right() -> None:
    """Replay would learn an outdated or misaligned past."""
    buffer = ReplayBuffer(2, 4, seed=0)
    buffer.put("u", sequence_of(1, 3))
    long = sequence_of(2, 6)
    long.group_starts[:] = [0, 0, 0, 3, 4, 4]
    buffer.put("u", long)
    (kept,) = buffer.draw(1, same)
    assert kept.rows.tolist() == [2, 2, 2, 2]
    assert kept.group_starts.tolist() == [0, 1, 2, 2]
    assert not kept.new.any()


def test_a_restored_buffer_draws_what_the_original_would_have() -> None:
    """A restarted learner would learn another past."""
    one = ReplayBuffer(10, 5, seed=3)
    for user in range(30):
        one.put(f"u{user}", sequence_of(user, 1 + user % 5))
    one.draw(12, same)
    other = ReplayBuffer(10, 5, seed=3)
    other.load(one.state())
    for buffer in (one, other):
        buffer.put("u99", sequence_of(99))
    for _ in range(5):
        for left, right in zip(one.draw(12, same), other.draw(12, same), strict=True):
            assert left.rows.tolist() == right.rows.tolist()


def test_items_have_the_rows_of_now() -> None:
    """The past would be learned into the row of another item, which has it since."""
    buffer = ReplayBuffer(2, 4, seed=0)
    buffer.put("u", sequence_of(7))
    for factor in (0, 2):
        (drawn,) = buffer.draw(1, lambda keys, by=factor: SequenceItems(3 * keys, by * keys))  # type: ignore[misc]
        assert (drawn.keys.tolist(), drawn.rows.tolist()) == ([21] * 3, [7 * factor] * 3)


def test_an_empty_buffer_survives_a_round_trip() -> None:
    """The first checkpoint comes before the first user."""
    buffer = ReplayBuffer(10, 5, seed=3)
    buffer.load(ReplayBuffer(10, 5, seed=3).state())
    assert len(buffer) == 0
    assert buffer.draw(2, same) == []


def test_a_user_who_was_forgotten_is_drawn_no_more_and_the_others_as_before() -> None:
    """What a user did would be learned again and again after it was to be forgotten, or another's would be lost."""
    for gone in range(4):
        buffer = ReplayBuffer(4, 5, seed=0)
        for user in range(4):
            buffer.put(f"u{user}", sequence_of(user))
        buffer.forget(f"u{gone}")
        buffer.forget("nobody")
        others = sorted({0, 1, 2, 3} - {gone})
        assert sorted(int(sequence.rows[0]) for sequence in buffer.draw(99, same)) == others
        state = buffer.state()
        assert f"u{gone}".encode() not in state["replay.user_bytes"].tobytes()
        assert gone not in state["replay.keys"]
        restored = ReplayBuffer(4, 5, seed=0)
        restored.load(state)
        for each in (buffer, restored):
            for user in others:
                each.put(f"u{user}", sequence_of(10 + user))
            each.put("u9", sequence_of(9))
            assert sorted(int(sequence.rows[0]) for sequence in each.draw(99, same)) == sorted(
                [9, *(10 + u for u in others)]
            )
            each.put("u8", sequence_of(8))
            assert len(each) == len(each.draw(99, same)) == 4


def test_the_last_user_can_be_forgotten() -> None:
    """A learner with one user would end."""
    buffer = ReplayBuffer(4, 5, seed=0)
    buffer.put("u", sequence_of(1))
    buffer.forget("u")
    assert (len(buffer), buffer.draw(1, same)) == (0, [])
    restored = ReplayBuffer(4, 5, seed=0)
    restored.load(buffer.state())
    assert restored.draw(1, same) == []

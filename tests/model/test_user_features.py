"""What is known of a user, among the events: by which rows, where, and that it is learned from."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from model.batch import SequenceItems, encode_sequence
from model.evaluation import NOTHING_KNOWN, Histories, Interaction
from model.online import OnlineLearner
from model.sequence import UserSequence
from model.settings import ModelSettings
from model.token_order import TOKEN_ORDERS, TokenOrder
from model.user_features import NO_FEATURE, UserFeature, categories, feature_rows
from model.windows import EncodedSequence, cut_windows, newest_entries
from tests.model.synthetic import LEARN, SMALL, learner_factory, markov_stream

MANY = 1 << 40


def sequence_of(times: list[int], groups: list[int], features: list[UserFeature]) -> UserSequence:
    count = len(times)
    return UserSequence(
        user_id="u",
        item_ids=[f"i{number}" for number in range(count)],
        ts_ms=np.array(times, np.int64) * 1_000,
        actions=np.ones(count, np.int64),
        values=np.full(count, np.nan, np.float32),
        groups=np.array(groups, np.int64),
        new=np.zeros(count, np.int64),
        order=np.zeros(count, np.int64),
        features=features,
    )


def encoded(sequence: UserSequence) -> tuple[EncodedSequence, np.ndarray]:
    count = len(sequence.item_ids)
    items = SequenceItems(np.arange(count), np.arange(count) + 100)
    return encode_sequence(sequence, items, np.full(count, -1), ModelSettings())


def test_a_name_has_one_row_and_each_of_its_values_another() -> None:
    """True and 1 are two values, 3 and 3.0 are one; a feature of another name shares nothing."""
    values = ("x", 1, True, 3, 3.0, "3")
    rows = feature_rows([UserFeature(0, 0, "f", value) for value in values], MANY)
    assert len(set(rows[:, 0])) == 1
    assert rows[3].tolist() == rows[4].tolist()
    assert len(set(rows[:, 1].tolist())) == len(values) - 1
    other = feature_rows([UserFeature(0, 0, "g", "x")], MANY)
    assert not set(other.ravel().tolist()) & set(rows.ravel().tolist())
    few = feature_rows([UserFeature(0, 0, "f", number) for number in range(200)], 7)
    assert set(few[:, 1].tolist()) == set(range(7))


def test_a_fraction_is_no_category() -> None:
    """Each value of a ratio would be a row of its own, learned once."""
    told = [UserFeature(0, 0, "ratio", 0.25), UserFeature(0, 0, "age", 30.0), UserFeature(0, 0, "new", False)]
    assert [feature.name for feature in categories(told)] == ["age", "new"]


def test_features_stand_among_the_events_by_time_and_never_inside_a_group() -> None:
    """An item would see what was told after it, or its group would fall apart."""
    told = [UserFeature(4_000, 3, "age", 31), UserFeature(500, 0, "age", 30), UserFeature(2_000, 1, "plan", "paid")]
    numbers, at = encoded(sequence_of([1, 2, 2, 5], [7, 8, 8, 9], told))
    assert at.tolist() == [1, 3, 4, 6]
    assert numbers.rows.tolist() == [0, 100, 0, 101, 102, 0, 103]
    assert numbers.seconds.tolist() == [0, 1, 2, 2, 2, 4, 5]
    assert numbers.group_starts.tolist() == [0, 1, 2, 3, 3, 5, 6]
    assert numbers.is_feature.nonzero()[0].tolist() == [0, 2, 5]
    assert numbers.features[1].tolist() == list(NO_FEATURE)
    assert (numbers.actions[numbers.is_feature] == 0).all()


def test_a_model_without_feature_rows_is_told_nothing() -> None:
    told = [UserFeature(0, 0, "age", 30)]
    items = SequenceItems(np.array([0]), np.array([5]))
    numbers, at = encode_sequence(sequence_of([1], [7], told), items, np.array([0]), ModelSettings(feature_rows=0))
    assert (numbers.rows.tolist(), at.tolist()) == ([5], [0])


def test_what_still_holds_goes_along_when_the_window_slides() -> None:
    """A user's country would be forgotten with the event that stood beside it."""
    told = [UserFeature(0, 0, "plan", "free"), UserFeature(500, 0, "country", "is"), UserFeature(2_500, 2, "plan", "x")]
    numbers, _ = encoded(sequence_of(list(range(1, 41)), list(range(40)), told))
    entries = newest_entries(numbers, len(numbers.rows), 20)
    assert entries.tolist() == [1, 4, *range(25, 43)]
    rows = feature_rows(sorted(told), 1_024)
    assert numbers.features[entries[:2]].tolist() == [rows[1].tolist(), rows[2].tolist()]
    assert len(newest_entries(numbers, 20, 20)) == 20


@pytest.mark.parametrize("order", TOKEN_ORDERS.values(), ids=TOKEN_ORDERS)
def test_windows_hold_every_new_event_once_however_much_is_told(order: TokenOrder) -> None:
    """Features would push events out of a window, and they would never be learned."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        num_events, num_told = int(rng.integers(1, 300)), int(rng.integers(60))
        places = np.sort(rng.integers(0, num_events + 1, num_told)).tolist()
        told = [UserFeature(place * 1_000, place, f"f{rng.integers(40)}", int(rng.integers(3))) for place in places]
        sequence = sequence_of([number + 1 for number in range(num_events)], list(range(num_events)), told)
        sequence.new[int(rng.integers(num_events)) :] = 3
        numbers, at = encoded(sequence)
        windows = cut_windows(numbers, 128, order)
        covered = np.concatenate([window.sequence.rows[window.targets] for window in windows])
        assert covered.tolist() == numbers.rows[np.flatnonzero(numbers.new)].tolist()
        assert all(1 + order.tokens_per_event * window.end <= window.length <= 128 for window in windows)
        assert at[-1] < len(numbers.rows)


def told_until(sequence: UserSequence, schedule: list[tuple[int, str, int]]) -> UserSequence:
    """The sequence with what was told of its user until its last event."""
    last = int(sequence.ts_ms[-1])
    features = [
        UserFeature(ts_ms, int(np.searchsorted(sequence.ts_ms, ts_ms)), name, value)
        for ts_ms, name, value in schedule
        if ts_ms <= last
    ]
    return dataclasses.replace(sequence, features=features)


@pytest.mark.parametrize("layout", [{"window": 32}, {"window": 64, "layout": "interleaved"}], ids=str)
def test_scores_before_a_point_are_the_same_bytes_whatever_is_told_after_it(layout: dict[str, Any]) -> None:
    """The proof that no score used a feature of the future."""
    rng = np.random.default_rng(1)
    stream = [dataclasses.replace(event, user_id=f"u{rng.integers(4)}") for event in markov_stream(320)]
    told = [(int(rng.integers(320_000)), f"f{rng.integers(20)}", int(rng.integers(5))) for _ in range(60)]
    settings = dataclasses.replace(SMALL, dim=64, **layout)

    def scores(schedule: list[tuple[int, str, int]]) -> np.ndarray:
        learner, histories = learner_factory(settings), Histories(num_events=100)
        reports = [
            learner.step([told_until(each, schedule) for each in histories.extend(stream[start : start + 32])])
            for start in range(0, 320, 32)
        ]
        return np.concatenate([np.column_stack([report.targets.ranks, report.action_logits_EA]) for report in reports])

    cut = 192
    whole = scores(sorted(told))
    # Between the first event of a micro-batch and its last one more may be told: those before it stay.
    before = [each for each in sorted(told) if each[0] < cut * 1_000]
    assert scores(before)[:cut].tobytes() == whole[:cut].tobytes()
    assert scores([])[:cut].tobytes() != whole[:cut].tobytes()


def test_what_is_known_of_a_stranger_is_learned() -> None:
    """Half of the users act on the first ten items, half on the others, and a feature says who does which."""
    rng = np.random.default_rng(0)
    stream: list[Interaction] = []
    known: dict[str, dict[str, int]] = {}
    for user in range(600):
        half = int(rng.integers(2))
        known[f"u{user}"] = {"half": half, "noise": int(rng.integers(5))}
        for step in range(2):
            item = f"i{10 * half + rng.integers(10)}"
            stream.append(Interaction(f"u{user}", item, 1_000 * len(stream), 1 + step % 2))
    first = {}
    for name, features in (("told", known), ("untold", NOTHING_KNOWN)):
        learner, histories = learner_factory(SMALL, LEARN), Histories(user_features=features)
        reports = [learner.step(histories.extend(stream[start : start + 32])) for start in range(0, len(stream), 32)]
        ranks = np.concatenate([report.targets.ranks for report in reports])
        first[name] = (ranks[600::2] <= 10).mean()
    assert first["told"] > 0.9
    assert first["untold"] < 0.65


def test_a_restored_learner_knows_what_it_was_told() -> None:
    """Past sequences are learned again with their features."""
    stream = markov_stream(256)
    known = {event.user_id: {"half": len(event.user_id) % 2} for event in stream}
    learner, histories = learner_factory(SMALL), Histories(user_features=known)
    for start in range(0, 192, 32):
        learner.step(histories.extend(stream[start : start + 32]))
    twin = OnlineLearner.restore(SMALL, LEARN, *learner.state())
    batch = histories.extend(stream[192:224])
    assert learner.step(batch).action_logits_EA.tobytes() == twin.step(batch).action_logits_EA.tobytes()
    batch = histories.extend(stream[224:])
    assert learner.step(batch).action_logits_EA.tobytes() == twin.step(batch).action_logits_EA.tobytes()


def test_a_negative_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_rows must be >= 0, got -1"):
        ModelSettings(feature_rows=-1)

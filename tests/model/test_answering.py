"""Answers from users' caches against answers that are computed anew."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from model.answering import Answering
from model.contents import Contents, Description
from model.evaluation import Histories
from model.hstu import HSTULayer
from model.question import BestItems, GivenItems, Question
from model.recommender import Recommender
from model.sequence import UserSequence
from model.settings import ModelSettings
from model.user_cache import UserCaches
from model.user_features import UserFeature
from tests.model.synthetic import SMALL, feed, learner_factory, markov_stream

MANY_BYTES = 1 << 24
LAYOUTS = {
    "targets": dataclasses.replace(SMALL, num_layers=2),
    "interleaved": dataclasses.replace(SMALL, num_layers=2, layout="interleaved", window=64),
    "no counts": dataclasses.replace(
        SMALL, num_heads=2, transition_memory=False, popularity_prior=False, action_rates=False, feature_rows=0
    ),
    "values": dataclasses.replace(SMALL, predict_values=True, ranking_experts=2, content_rows=0),
}


@functools.cache
def arrays_of(layout: str) -> dict[str, Any]:
    """Learned weights; of items without a row, too, of which one is described and one was forgotten."""
    learner = learner_factory(LAYOUTS[layout])
    feed(learner, markov_stream(320), Histories())
    arrays = learner.state()[0]
    contents = Contents(100, LAYOUTS[layout].content_rows)
    contents.load(arrays)
    assert contents.describe(Description(item_id="gone", words=("drama",), forgotten=True))
    assert contents.describe(Description(item_id="unknown a", words=("comedy", "war")))
    # The stream has no ids without a row, so that nothing was learned of such.
    draws = np.random.default_rng(0)
    unknown = {name: arrays[name] for name in ("dense.shared_items", "dense.words")}
    drawn = {name: draws.normal(size=array.shape).astype(np.float32) for name, array in unknown.items()}
    return arrays | contents.state() | drawn


def recommender(layout: str) -> Recommender:
    return Recommender.from_state(LAYOUTS[layout], arrays_of(layout))


def growing(seed: int) -> Iterator[UserSequence]:
    """A user's sequence after each of some events: shown in groups, acted on late, trimmed, moved about in time."""
    draws = np.random.default_rng(seed)
    columns = np.zeros((0, 4), np.int64)  # item, seconds, actions, group
    features: list[UserFeature] = []
    now = 1_000
    for number in range(45):
        now += int(draws.choice([0, 1, 40, 90_000]))
        kind = draws.choice(
            ["event", "group", "action", "late", "trim", "feature", "nothing"],
            p=[0.4, 0.2, 0.2, 0.05, 0.05, 0.05, 0.05],
        )
        if kind == "action" and len(columns):
            columns[draws.integers(max(0, len(columns) - 6), len(columns)), 2] |= 1 << draws.integers(3)
        elif kind == "trim":
            columns = columns[draws.integers(0, 4) :]
        elif kind == "feature":
            features.append(UserFeature(now * 1_000, 0, "plan", int(draws.integers(3))))
        elif kind != "nothing":
            seconds = now - 45 if kind == "late" else now
            made = 3 if kind == "group" else 1
            rows = [[draws.integers(70), seconds, draws.integers(3), number] for _ in range(made)]
            columns = np.concatenate([columns, np.array(rows, np.int64)])
        columns = columns[np.argsort(columns[:, 1], kind="stable")]
        yield _sequence(columns, features)


def _sequence(columns: np.ndarray, features: list[UserFeature]) -> UserSequence:
    count = len(columns)
    names = {66: "gone", 67: "unknown a", 68: "unknown b", 69: "é" * 90}
    places = [
        feature._replace(place=int(np.searchsorted(columns[:, 1] * 1_000, feature.ts_ms))) for feature in features
    ]
    return UserSequence(
        user_id="u",
        item_ids=[names.get(item, f"i{item}") for item in columns[:, 0].tolist()],
        ts_ms=columns[:, 1] * 1_000,
        actions=columns[:, 2].copy(),
        values=np.full(count, np.nan, np.float32),
        groups=columns[:, 3].copy(),
        new=np.zeros(count, np.int64),
        order=np.zeros(count, np.int64),
        features=places,
    )


def asked_of(sequence: UserSequence, now_ms: int) -> list[Question[Any]]:
    ids = [f"i{number}" for number in range(0, 40, 3)] + ["gone", "unknown a", "unknown c", "i3"]
    return [
        BestItems(sequence=sequence, now_ms=now_ms, k=12, unavailable={"i4"}),
        GivenItems(sequence=sequence, now_ms=now_ms, item_ids=ids),
    ]


def held_bytes(answering: Answering) -> int:
    return sum(cache.num_bytes + UserCaches.ENTRY_BYTES for cache in answering.caches._caches.values())


def check_equal(model: Recommender, question: Question[Any], answer: Any) -> None:
    sequence, now_ms = question.sequence, question.now_ms
    if isinstance(question, BestItems):
        wanted = model.recommend(sequence, now_ms=now_ms, k=1_000, unavailable=question.unavailable)
        scores = dict(wanted)
        assert [score for _, score in answer] == pytest.approx([score for _, score in wanted[: question.k]], abs=1e-5)
        assert all(score == pytest.approx(scores[item_id], abs=1e-5) for item_id, score in answer)
    else:
        assert isinstance(question, GivenItems)
        wanted_rows = model.rank(sequence, now_ms=now_ms, item_ids=question.item_ids)
        assert len(answer) == len(wanted_rows)
        for row, wanted_row in zip(answer, wanted_rows, strict=True):
            assert row == pytest.approx(wanted_row, abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(2))
def test_answers_from_a_cache_are_those_computed_anew_whatever_became_of_the_history(layout: str, seed: int) -> None:
    """What was computed of events that were folded, trimmed or moved would go on being told."""
    model, answering = recommender(layout), Answering(MANY_BYTES)
    for number, sequence in enumerate(growing(seed)):
        now_ms = int(sequence.ts_ms.max(initial=1_000_000)) + 1_000 * (number % 4)
        for question in asked_of(sequence, now_ms):
            check_equal(model, question, answering.answer(model, [question])[0])
    assert answering.caches.num_misses == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"item_ids": ["i1", "unknown b", "i3", "i4"]},
        {"item_ids": ["i2", "unknown a", "i3", "i4"]},
        {"actions": np.array([1, 1, 2, 4])},
        {"ts_ms": np.array([0, 9_000, 10_000, 90_000])},
        {"groups": np.array([0, 1, 1, 2])},
        {"features": (UserFeature(0, 0, "plan", 2),)},
        {"features": ()},
    ],
    ids=["unknown", "row", "actions", "time", "groups", "feature", "fewer"],
)
@pytest.mark.parametrize("layout", ["targets", "interleaved"])
def test_an_earlier_event_that_became_another_is_computed_anew(layout: str, changes: dict[str, Any]) -> None:
    """What its former self was would be told of it for as long as the user is kept."""
    model, answering = recommender(layout), Answering(MANY_BYTES)
    columns = np.array([[1, 0, 1, 0], [67, 5, 1, 1], [3, 10, 0, 2], [4, 90, 4, 3]])
    former = _sequence(columns, [UserFeature(0, 0, "plan", 1)])
    for sequence in (former, dataclasses.replace(former, **changes)):
        for question in asked_of(sequence, 100_000):
            check_equal(model, question, answering.answer(model, [question])[0])
    wanted = [model.rank(one, now_ms=100_000, item_ids=["i3"]) for one in (former, sequence)]
    assert (layout == "targets" and "groups" in changes) or wanted[0] != wanted[1]


def test_several_users_questions_are_answered_each_with_its_own() -> None:
    """A batch would give one user what another one asked for."""
    model, answering = recommender("targets"), Answering(MANY_BYTES)
    users = [
        dataclasses.replace(sequence, user_id=f"u{seed}") for seed in range(5) for sequence in [[*growing(seed)][-1]]
    ]
    questions = [question for user in users for question in asked_of(user, 10**9)]
    questions.append(GivenItems(sequence=users[0], now_ms=10**9, item_ids=[]))
    for _ in range(2):
        for question, answer in zip(questions, answering.answer(model, questions), strict=True):
            check_equal(model, question, answer)
    assert len(answering.caches) == 5
    assert answering.caches.num_bytes == held_bytes(answering)


def test_only_what_is_new_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is never of use would go unnoticed: its answers are right."""
    model, answering = recommender("targets"), Answering(MANY_BYTES)
    computed: list[int] = []
    encode = HSTULayer.project

    def project(layer: HSTULayer, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        computed.append(len(x_TD))
        return encode(layer, x_TD)

    monkeypatch.setattr(HSTULayer, "project", project)
    columns = np.column_stack([np.arange(12), np.arange(12) * 60, np.ones((12, 2), np.int64).cumsum(0)])
    for count in (10, 10, 11, 12):
        answering.answer(model, asked_of(_sequence(columns[:count] * [1, 1, 0, 1], []), 10**6)[:1])
    assert computed[::2] == [32, 1, 2, 2]


def test_a_cache_of_other_weights_is_not_used() -> None:
    """Keys of a former version would be read by queries of the next."""
    answering, sequence = Answering(MANY_BYTES), [*growing(0)][-1]
    former = arrays_of("targets")
    newer = former | {"items.weight": np.roll(former["items.weight"], 7, axis=0)}
    for arrays in (former, newer, former):
        model = Recommender.from_state(LAYOUTS["targets"], arrays)
        for question in asked_of(sequence, 10**9):
            check_equal(model, question, answering.answer(model, [question])[0])
    assert (answering.caches.num_hits, answering.caches.num_misses, len(answering.caches)) == (3, 3, 1)


def test_a_question_that_fails_leaves_no_half_made_cache() -> None:
    """The next answer would be read from tokens that were never computed."""
    model, answering, sequence = recommender("targets"), Answering(MANY_BYTES), [*growing(0)][-1]
    question = BestItems(sequence=sequence, now_ms=10**9, k=3)
    broken = dataclasses.replace(sequence, actions=sequence.actions[:-1])
    with pytest.raises(ValueError, match=r"broadcast|length|shape|axis|assign"):
        answering.answer(model, [question, BestItems(sequence=broken, now_ms=10**9, k=3)])
    assert (len(answering.caches), answering.caches.num_bytes) == (0, 0)
    check_equal(model, question, answering.answer(model, [question])[0])


@pytest.mark.parametrize("limit_bytes", [0, 16_000, 50_000])
def test_memory_stays_under_its_limit_and_answers_what_they_are(limit_bytes: int) -> None:
    """The server would grow with the number of users until it is killed."""
    model, answering = recommender("targets"), Answering(limit_bytes)
    histories = [*growing(3)][::5]
    for number in range(50):
        sequence = dataclasses.replace(histories[number % 9], user_id=f"u{number % 37}")
        for question in asked_of(sequence, 10**9):
            check_equal(model, question, answering.answer(model, [question])[0])
        caches = answering.caches
        assert caches.num_bytes == held_bytes(answering) <= limit_bytes
    assert (len(caches) == 0) == (limit_bytes == 0)
    assert (caches.num_evicted == 0) == (limit_bytes == 0)


def test_who_was_asked_for_longest_ago_goes_first() -> None:
    """The users who come again and again would be those who are computed anew."""
    model, history = recommender("targets"), [*growing(3)][10]
    answering = Answering(MANY_BYTES)

    def ask(user_id: str) -> None:
        answering.answer(model, asked_of(dataclasses.replace(history, user_id=user_id), 10**9)[:1])

    ask("a")
    answering.caches._caches.limit_bytes = 2 * answering.caches.num_bytes
    for user_id in ("b", "a", "c", "a", "b"):
        ask(user_id)
    assert (answering.caches.num_hits, answering.caches.num_misses, answering.caches.num_evicted) == (2, 4, 2)


def test_a_limit_below_nothing_is_refused() -> None:
    """It would be taken for none at all."""
    with pytest.raises(ValueError, match="limit_bytes must be >= 0, got -1"):
        UserCaches(-1)
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        BestItems(sequence=next(growing(0)), now_ms=0, k=0)


def test_settings_of_the_cases_differ() -> None:
    """A case that is another one's twin tests nothing."""
    assert len({repr(settings) for settings in LAYOUTS.values()}) == len(LAYOUTS)
    assert all(isinstance(settings, ModelSettings) for settings in LAYOUTS.values())

"""The end of the demo: which user, which genre, what the likes changed."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deploy import story as module
from deploy.answers import RecommendAnswer, Recommendation
from deploy.genres import MIN_RUNS, genre_runs
from deploy.story import pick_genre, pick_user, tell_story
from storage.errors import SetupError
from streams.dataset import Dataset
from streams.items import Item
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

WAR = [f"war{number}" for number in range(MIN_RUNS + 5)]
LOVE = [f"love{number}" for number in range(MIN_RUNS + 5)]
FEW = [f"few{number}" for number in range(MIN_RUNS // 2)]


def dataset_factory(rows: list[tuple[str, str, int]]) -> Dataset:
    """A set of (user, item, mask) rows; genres follow from the items' names."""
    genres = {"War": WAR, "Love": LOVE, "Few": FEW}
    items = {
        item_id: Item(item_id=item_id, title=item_id.title(), categories=(genre,))
        for genre, ids in genres.items()
        for item_id in ids
    }
    return Dataset(
        name="made",
        user_ids=[user for user, _, _ in rows],
        item_ids=[item for _, item, _ in rows],
        ts_ms=np.arange(len(rows), dtype=np.int64),
        actions=np.array([mask for _, _, mask in rows], dtype=np.int64),
        values=np.full(len(rows), np.nan, np.float32),
        action_names=("like", "dislike"),
        items=items,
    )


def all_liked(user: str = "regular") -> list[tuple[str, str, int]]:
    return [(user, item, 1) for item in (*WAR, *LOVE, *FEW)]


def answer(*genres: str) -> RecommendAnswer:
    items = [
        Recommendation(item_id=f"i{place}", title="", categories=[genre], score=0) for place, genre in enumerate(genres)
    ]
    return RecommendAnswer(
        model_version="run/v1", model_age_seconds=1, alias="champion", user_id="ada", applied=1, items=items
    )


def test_the_user_is_of_middling_activity_and_came_last() -> None:
    """For a newcomer or a regular three likes change too much or too little."""
    rows = [("a", "x", 1)] * 9 + [("b", "x", 1)] * 3 + [("c", "x", 1)] * 3 + [("d", "x", 1)] + [("a", "x", 1)]
    counts = {user: sum(row[0] == user for row in rows) for user in "abcd"}
    assert counts == {"a": 10, "b": 3, "c": 3, "d": 1}
    assert pick_user(dataset_factory(rows)) == "d"
    assert pick_user(dataset_factory(rows[:15])) == "c"


def test_the_genre_is_rare_in_the_list() -> None:
    """A genre that fills the list already cannot rise in it."""
    rows = dataset_factory(all_liked())
    genre, items = picked(answer("War", "War", "Love"), rows)
    assert genre == "Love"
    assert {item.item_id for item in items} <= set(LOVE)
    assert picked(answer("Love"), rows)[0] == "War"


def test_the_genre_that_runs_longest_is_chosen_among_rare_ones() -> None:
    """What users leave at once says nothing of what comes next."""
    left_at_once = [("b", item, 1) for love in range(0, len(LOVE) - 3, 3) for item in (*LOVE[love : love + 3], "other")]
    rows = dataset_factory([*[("a", item, 1) for item in WAR], *left_at_once * 4])
    runs = genre_runs(rows, "like")
    assert runs["War"].rate == 1
    assert runs["Love"].rate < 0.5
    assert picked(answer(), rows)[0] == "War"


def test_items_liked_within_runs_that_the_user_has_not_met_are_chosen() -> None:
    """A film that the user has rated is no recommendation; one that nobody likes says nothing of its genre."""
    rows = [
        *all_liked(),
        *[("x", LOVE[place], 1) for place in (1, 7, 2)],
        *[("x", LOVE[place], 1) for place in (3, 5, 4)],
        *[("x", LOVE[place], 1) for place in (9, 7, 8)],
        ("x", "other", 1),
        ("ada", LOVE[5], 2),
    ]
    _, items = picked(answer("War"), dataset_factory(rows))
    assert items[0].item_id == LOVE[7]
    assert LOVE[5] not in [item.item_id for item in items]


def test_liked_means_the_action_that_is_sent() -> None:
    """In a file's set actions stand by name: its first bit may be the dislike."""
    rows = dataset_factory(all_liked())
    assert sum(genre_runs(rows, "like")["Love"].liked.values()) > 0
    assert sum(genre_runs(rows, "dislike")["Love"].liked.values()) == 0


def test_a_set_without_runs_has_no_story() -> None:
    """An error would end the demo at its very end."""
    rows = dataset_factory([("regular", item, 1) for item in FEW])
    assert pick_genre(answer("War").items, rows, "ada", "like") is None


def picked(before: RecommendAnswer, rows: Dataset) -> tuple[str, list[Item]]:
    found = pick_genre(before.items, rows, "ada", "like")
    assert found is not None
    return found


class Client:
    """A server whose weights take some looks to learn the likes."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.answers = iter([answer("War", "War"), answer("War", "Love")])
        self.learned_when_asked: list[int] = []

    def recommend(self, user_id: str, k: int) -> RecommendAnswer:
        assert k == module.LIST_LENGTH
        self.learned_when_asked.append(self.looks)
        return next(self.answers)

    def health(self) -> SimpleNamespace:
        self.looks -= 1
        return SimpleNamespace(learned={"1": 12 if self.looks <= 0 else 11})


@pytest.fixture
def likes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str, float | None]]:
    sent: list[tuple[str, str, str, float | None]] = []

    def send(
        client: object, kafka: object, topics: object, user: str, item: str, action: str, value: float | None
    ) -> Any:
        sent.append((user, item, action, value))
        return SimpleNamespace(partition=1, applied=9 + len(sent))

    monkeypatch.setattr(module, "send_action", send)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=lambda s: _sleep(clock, s)))
    return sent


def _sleep(clock: SimpleNamespace, seconds: float) -> None:
    clock.now += seconds


def test_the_list_after_comes_from_weights_that_learned_the_likes(likes: list[Any]) -> None:
    """The second list would be the first model's again."""
    client: Any = Client(looks=3)
    rows = dataset_factory([*all_liked("a"), *all_liked("b"), ("ada", "other", 1)])
    tell_story(client, KafkaSettings(), TopicSettings(), rows, "like", 5.0)
    assert client.learned_when_asked == [3, 0]


def test_the_likes_are_sent_and_their_share_is_told(likes: list[Any]) -> None:
    """What the demo shows must be what it did."""
    rows = dataset_factory([*all_liked("a"), *all_liked("b"), ("ada", "other", 1)])
    client: Any = Client(looks=1)
    story = tell_story(client, KafkaSettings(), TopicSettings(), rows, "like", 5.0)
    assert story is not None
    assert (story.user_id, story.genre) == ("ada", "Love")
    assert [item.item_id for item in story.liked] == LOVE[1:4]
    assert likes == [("ada", item, "like", 5.0) for item in LOVE[1:4]]
    assert (story.share_before, story.share_after) == (0.0, 0.5)


def test_likes_that_are_never_learned_end_the_story(likes: list[Any]) -> None:
    """The demo would wait for ever."""
    rows = dataset_factory([*all_liked("a"), *all_liked("b"), ("ada", "other", 1)])
    client: Any = Client(looks=10**9)
    with pytest.raises(SetupError, match=r"the likes are not in the weights after 60 s; is the learner up?"):
        tell_story(client, KafkaSettings(), TopicSettings(), rows, "like", None)


def test_an_empty_list_has_no_share() -> None:
    """A division by zero at the very end of the demo."""
    assert module.genre_share([], "War") == 0

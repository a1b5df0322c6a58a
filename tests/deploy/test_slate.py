"""The stages of a list, each by what would be shown without it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from deploy.serve_settings import ServeSettings
from deploy.slate import Place, Seen, capped, make_slate
from streams.items import Item

ITEM_IDS = [f"i{number}" for number in range(12)]
NOW_MS = 1_000_000
NOBODY = Seen(acted=frozenset(), tired=frozenset())


class Model:
    """Likes items in the order of `ITEM_IDS`: the first by 0, the second by -1; each is disliked by its number / 10."""

    def __init__(self) -> None:
        self.asked_for: list[int] = []

    async def best(self, count: int) -> list[tuple[str, float]]:
        self.asked_for.append(count)
        return [(item_id, -float(number)) for number, item_id in enumerate(ITEM_IDS[:count])]

    async def scores(self, item_ids: Sequence[str]) -> list[float]:
        return [-float(item_id.strip("in")) for item_id in item_ids]

    async def probabilities(self, item_ids: Sequence[str]) -> list[dict[str, float]]:
        return [{"like": 0.5, "dislike": float(item_id.strip("in")) / 10} for item_id in item_ids]


class Shelf:
    def __init__(self, *items: Item, newest: Sequence[str] = ()) -> None:
        self.items = {item.item_id: item for item in items}
        self.came = list(newest)
        self.since_ms = -1

    def get(self, item_id: str) -> Item | None:
        return self.items.get(item_id)

    def newest(self, since_ms: int) -> list[str]:
        self.since_ms = since_ms
        return self.came


def rules(**changes: Any) -> ServeSettings:
    return ServeSettings(**changes)


def made(k: int, shelf: Shelf | None = None, seen: Seen = NOBODY, model: Model | None = None, **changes: Any) -> Any:
    return asyncio.run(make_slate(model or Model(), shelf or Shelf(), rules(**changes), seen, k=k, now_ms=NOW_MS))


def ids(places: Sequence[Place]) -> list[str]:
    return [place.item_id for place in places]


def test_without_rules_a_list_is_what_retrieval_gives() -> None:
    """What the prequential figures measure would not be what is served."""
    model = Model()
    places = made(3, model=model)
    assert places == [Place(item_id=item_id, score=-float(number)) for number, item_id in enumerate(ITEM_IDS[:3])]
    assert model.asked_for == [3]


def test_weights_rank_anew_what_was_retrieved() -> None:
    """An item that is disliked by everyone who is shown it would stay first."""
    model = Model()
    places = made(2, model=model, candidates=5, action_weights=("dislike=20", "like=2"))
    assert model.asked_for == [5]
    assert ids(places) == ["i4", "i3"]
    assert places[0].score == -4 + 20 * 0.4 + 2 * 0.5
    assert places[0].actions == {"like": 0.5, "dislike": 0.4}
    assert ids(made(7, candidates=5, action_weights=("like=1",))) == ITEM_IDS[:7]


def test_what_was_shown_often_without_an_action_is_left_out() -> None:
    """The same item would be shown for ever to someone who does not want it."""
    events = ["i0", "i0", "i1", "i2", "i2", "i2"]
    seen = Seen.of(events, [0, 0, 0, 0, 1, 0], max_impressions=2)
    assert (seen.acted, seen.tired) == ({"i2"}, {"i0"})
    assert ids(made(3, seen=seen)) == ["i1", "i2", "i3"]
    assert Seen.of(events, [0] * 6, max_impressions=0).tired == frozenset()


def test_of_one_category_there_are_at_most_so_many_and_the_next_best_others_instead() -> None:
    """Ten films of one kind would be the whole list."""
    shelf = Shelf(
        *(Item(item_id=item_id, categories=("War",)) for item_id in ITEM_IDS[:4]),
        Item(item_id="i4", categories=("War", "Drama")),
        Item(item_id="i5", categories=("Drama",)),
    )
    assert ids(made(4, shelf, max_per_category=2)) == ["i0", "i1", "i5", "i6"]
    assert ids(made(4, shelf)) == ITEM_IDS[:4]


def test_of_one_author_there_are_at_most_so_many() -> None:
    shelf = Shelf(*(Item(item_id=item_id, author="Ann") for item_id in ITEM_IDS[:3]), Item(item_id="i3"))
    assert ids(made(3, shelf, max_per_author=1)) == ["i0", "i3", "i4"]


def test_a_cap_gives_way_where_too_few_are_left() -> None:
    """A shop with one category would show two items."""
    shelf = Shelf(*(Item(item_id=item_id, categories=("War",)) for item_id in ITEM_IDS))
    assert ids(made(5, shelf, max_per_category=2)) == ITEM_IDS[:5]
    places = [Place(item_id=item_id, score=0) for item_id in ["i1", "i2", "i3"]]
    shelf = Shelf(*(Item(item_id=item_id, categories=("War",)) for item_id in ["i1", "i2"]))
    assert ids(capped(places, shelf, ServeSettings(max_per_category=1), 3)) == ["i1", "i3", "i2"]


def test_the_last_places_are_kept_for_the_best_new_items() -> None:
    """An item that nobody has acted on yet would never be shown, and so never be acted on."""
    shelf = Shelf(newest=["n90", "n70", "n80"])
    places = made(5, shelf, fresh_slots=2, fresh_seconds=100.0)
    assert shelf.since_ms == NOW_MS - 100_000
    assert ids(places) == ["i0", "i1", "i2", "n70", "n80"]
    assert [place.why for place in places] == ["model"] * 3 + ["fresh"] * 2
    assert places[3].score == -70
    assert made(5, shelf, fresh_slots=2, action_weights=("like=2",))[3] == Place(
        item_id="n70", score=-69, actions={"like": 0.5, "dislike": 7.0}, why="fresh"
    )


def test_what_is_new_and_seen_or_listed_already_takes_no_kept_place() -> None:
    """One item would be shown twice, or again to someone who has bought it."""
    shelf = Shelf(newest=["n50", "i0", "n60", "i3"])
    seen = Seen(acted=frozenset({"n50"}), tired=frozenset({"n60"}))
    places = made(4, shelf, seen, fresh_slots=2)
    assert ids(places) == ["i0", "i1", "i2", "i3"]
    assert [place.why for place in places] == ["model", "model", "model", "fresh"]


def test_the_first_place_is_never_kept_and_kept_places_are_filled() -> None:
    """A list of one would be a guess, and one of ten shorter than ten."""
    shelf = Shelf(newest=["n50", "n60"])
    assert ids(made(1, shelf, fresh_slots=9)) == ["i0"]
    assert ids(made(2, shelf, fresh_slots=9)) == ["i0", "n50"]
    assert ids(made(4, fresh_slots=2)) == ITEM_IDS[:4]


@pytest.mark.parametrize("text", ["like", "=1", "like=", "like=x", "like=inf", "like=nan"])
def test_what_is_no_weight_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="action_weights must be like"):
        ServeSettings(action_weights=(text,))


def test_an_action_is_weighed_once() -> None:
    with pytest.raises(ValueError, match="action_weights must name each action once"):
        ServeSettings(action_weights=("like=1", "like=2"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("candidates", 0), ("max_impressions", -1), ("max_per_category", -1), ("max_per_author", -1), ("fresh_slots", -1)],
)
def test_limits_below_the_least_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be >= {value + 1}, got {value}"):
        rules(**{name: value})

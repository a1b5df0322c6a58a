"""Lists as the server is told to make them."""

from pathlib import Path
from typing import Any

import pytest

from streams.items import Item
from tests.deploy.house import House
from tests.deploy.models import ITEM_IDS, recommender
from tests.deploy.test_server import EMPTY, QUERY_MS, sequence_of


def listed(house: House, **params: Any) -> list[dict[str, Any]]:
    answer = house.ask("/recommend", user_id="u", **params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_a_list_is_ranked_by_the_weights_of_actions(tmp_path: Path) -> None:
    """What the ranking head has learned of dislikes would change nothing."""
    house = House(tmp_path, action_weights=("dislike=-100",), candidates=len(ITEM_IDS))
    house.publish(3)
    items = listed(house, k=4)
    retrieved = recommender(3).recommend(sequence_of("u"), now_ms=QUERY_MS, k=len(ITEM_IDS))
    told = recommender(3).rank(sequence_of("u"), now_ms=QUERY_MS, item_ids=[item_id for item_id, _ in retrieved])
    totals = {item_id: score - 100 * row["dislike"] for (item_id, score), row in zip(retrieved, told, strict=True)}
    expected = sorted(totals, key=lambda item_id: -totals[item_id])[:4]
    assert [item["item_id"] for item in items] == expected
    assert [item["score"] for item in items] == pytest.approx([totals[item_id] for item_id in expected], rel=1e-4)
    assert set(items[0]["actions"]) == {"like", "dislike"}
    assert items[0]["why"] == "model"


def test_weights_of_actions_that_the_model_does_not_know_are_named(tmp_path: Path) -> None:
    """A misspelt action would weigh nothing, and nobody would know."""
    house = House(tmp_path, action_weights=("hide=-1", "like=1"))
    house.publish(1)
    for path in ("/recommend", "/healthz"):
        answer = house.ask(path, user_id="u")
        assert answer.status_code == 503
        assert "serve.action_weights names hide, and the actions of model run/v1 are like, dislike" in answer.text


def test_a_newcomer_is_shown_what_is_popular_and_what_is_new(tmp_path: Path) -> None:
    """An item without a row is in no list that the model makes."""
    house = House(tmp_path, fresh_slots=2)
    house.publish(1)
    house.know(*(Item(item_id=f"new{number}", title=f"New {number}") for number in range(3)))
    house.workers.body = dict(EMPTY)
    items = listed(house, k=5)
    best = recommender(1).recommend(sequence_of("u", 0), now_ms=QUERY_MS, k=3)
    assert [item["item_id"] for item in items[:3]] == [item_id for item_id, _ in best]
    assert {item["why"] for item in items[3:]} == {"fresh"}
    assert {item["title"] for item in items[3:]} < {"New 0", "New 1", "New 2"}


def test_a_new_item_that_is_not_available_takes_no_place(tmp_path: Path) -> None:
    house = House(tmp_path, fresh_slots=1)
    house.publish(1)
    house.know(Item(item_id="new", available=False))
    assert {item["why"] for item in listed(house, k=5)} == {"model"}

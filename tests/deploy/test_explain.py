"""Explanations: of the list that is shown, and of nothing that is to be forgotten."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.asked import Asked
from deploy.canary import Side
from deploy.explain import explain, without
from deploy.inference import Inference
from model.recommender import Recommender
from model.user_features import UserFeature
from storage.entries import pack_position
from storage.manifest import SampleMark
from streams.items import Item
from tests.deploy.house import House
from tests.deploy.models import SETTINGS, model_arrays, recommender
from tests.deploy.test_server import EMPTY, QUERY_MS, sequence_of


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_an_item_is_explained_with_the_score_that_it_is_listed_with(house: House) -> None:
    """The parts would be of a score that nobody was shown."""
    house.publish(3)
    (item_id, _), *_ = recommender(3).recommend(sequence_of("u"), now_ms=QUERY_MS, k=1)
    house.know(Item(item_id=item_id, title="The first"))
    listed, explained = house.ask_each(
        ("/recommend", {"user_id": "u", "k": 1}), ("/explain", {"user_id": "u", "item_id": item_id})
    )
    best, body = listed.json()["items"][0], explained.json()
    assert body["score"] == pytest.approx(best["score"], abs=1e-4)
    assert body["score"] == pytest.approx(body["similarity"] + body["popularity"] + body["transitions"])
    assert (body["item"]["title"], body["available"], body["acted_on"], body["has_row"]) == (
        "The first",
        True,
        False,
        True,
    )
    ranked = recommender(3).rank(sequence_of("u"), now_ms=QUERY_MS, item_ids=[best["item_id"]])[0]
    assert body["actions"] == pytest.approx(ranked)
    assert (body["model_version"], body["version_ms"], body["last_event_ms"]) == ("run/v3", 997_500, 20)


def test_an_event_s_change_is_the_score_less_that_without_the_event(house: House) -> None:
    house.publish(3)
    asked_for = {"user_id": "u", "item_id": "i9"}
    both, newest = house.ask_each(("/explain", asked_for), ("/explain", {**asked_for, "last": 1}))
    body = both.json()
    asked: dict[str, Any] = {"now_ms": QUERY_MS, "item_ids": ["i9"]}
    whole = recommender(3).scores(sequence_of("u"), **asked)[0].total
    without_second = recommender(3).scores(sequence_of("u", 1), **asked)[0].total
    by_item = {event["item_id"]: event for event in body["events"]}
    assert by_item["i1"]["change"] == pytest.approx(whole - without_second, abs=1e-4)
    assert by_item["i1"]["actions"] == ["like", "dislike"]
    changes = [abs(event["change"]) for event in body["events"]]
    assert changes == sorted(changes, reverse=True)
    assert [event["item_id"] for event in newest.json()["events"]] == ["i1"]


def test_what_an_event_is_without_leaves_no_trace_and_features_keep_their_places() -> None:
    """A feature told between two events would come before the first."""
    sequence = sequence_of("u")
    sequence.features[:] = [UserFeature(1, 0, "a", 1), UserFeature(15, 1, "b", 2), UserFeature(30, 2, "c", 3)]  # type: ignore[index]  # a list here
    left = without(sequence, 0)
    assert (left.item_ids, left.ts_ms.tolist(), left.actions.tolist()) == (["i1"], [20], [3])
    assert [told.place for told in left.features] == [0, 0, 1]
    assert len(sequence.item_ids) == 2


def test_the_memory_of_what_follows_what_is_a_part_of_its_own(house: House) -> None:
    """Why an item is listed that the weights would not have listed could not be told."""
    arrays = model_arrays(1)
    arrays["memory.successors"][2, 0], arrays["memory.counts"][2, 0] = 11, 3.0
    model = Recommender.from_state(SETTINGS, arrays)

    inference = Inference(cache_bytes=0, max_batch=1)
    told = {}
    for item_id in ("i10", "i12"):
        unused: Any = None
        asked = Asked(
            side=Side(unused, _Replica(model)),  # type: ignore[arg-type]  # all that is read of one
            columns=unused,
            sequence=sequence_of("u"),
            now_ms=QUERY_MS,
            unavailable=(),
            inference=inference,
            started=0.0,
        )
        told[item_id] = asyncio.run(explain(asked, item_id, [0, 1]))
    inference.stop()
    gate = 0.5
    assert told["i10"].score.transitions == pytest.approx(gate * np.log(4), rel=1e-3)
    assert told["i12"].score.transitions == 0


class _Replica:
    def __init__(self, model: Recommender) -> None:
        self.recommender = model


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ({str(number): SampleMark(epoch=1, trigger_offset=41, n=0) for number in range(4)}, (41, {"i0"})),
        ({str(number): SampleMark(epoch=0, trigger_offset=99, n=0) for number in range(4)}, (99, set())),
        ({}, (None, set())),
    ],
    ids=["the first", "another log", "nothing"],
)
def test_it_is_told_what_the_weights_have_learned_of_the_user(
    house: House, marks: dict[str, SampleMark], expected: tuple[int | None, set[str]]
) -> None:
    """Whoever waits for an event to be learned would not know which of them was."""
    house.workers.body |= {"groups": [pack_position(1, 41), pack_position(1, 42)]}
    house.publish(1, sample_marks=marks)
    body = house.ask("/explain", user_id="u", item_id="i9").json()
    learned = {event["item_id"] for event in body["events"] if event["learned"]}
    assert (body["learned_offset"], learned) == expected


def test_a_newcomer_and_an_unknown_item_are_explained_too(house: House) -> None:
    house.publish(1)
    house.workers.body = dict(EMPTY)
    body = house.ask("/explain", user_id="u", item_id="nowhere").json()
    assert (body["events"], body["last_event_ms"], body["has_row"]) == ([], None, False)
    assert (body["popularity"], body["transitions"]) == (0, 0)


def test_what_is_to_be_forgotten_is_not_named(house: House) -> None:
    house.publish(1)
    house.know(Item(item_id="i0", title="Gone", forgotten=True, available=False))
    body = house.ask("/explain", user_id="u", item_id="i0").json()
    assert (body["item"]["title"], body["available"]) == ("", False)
    assert [event["item_id"] for event in body["events"]] == ["i1"]


@pytest.mark.parametrize("last", [0, 33])
def test_the_number_of_events_is_limited(house: House, last: int) -> None:
    """One request would keep the model busy for as many passes as a user has events."""
    assert house.ask("/explain", user_id="u", item_id="i", last=last).status_code == 422

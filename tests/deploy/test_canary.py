"""A canary beside the champion: who is answered by which, and how good each is."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from deploy.canary import Split
from deploy.list_hits import ListHits
from deploy.sequence_columns import SequenceColumns
from deploy.serve_settings import ServeSettings
from storage.aliases import Aliases
from tests.deploy.house import House
from tests.deploy.models import recommender
from tests.deploy.test_server import QUERY_MS, sequence_of
from tests.deploy.workers import columns

USERS = [f"u{number}" for number in range(24)]
GOLDEN = ["u1033", "u1732", "u2569", "u2642", "u3652", "u714", "u852"]
SETTINGS: dict[str, Any] = {"canary_alias": "canary", "canary_share": 0.5}


def house_of(tmp_path: Path, **changes: Any) -> House:
    """Version 1 is pinned as the canary, and the champion is version 2."""
    house = House(tmp_path, **{**SETTINGS, **changes})
    house.publish(1, metrics={"hit_rate": 0.25})
    Aliases(house.store).pin("canary", "run", 1, moved_ms=1)
    house.publish(2, metrics={"hit_rate": 0.5})
    return house


def served(house: House, **asked: Any) -> dict[str, dict[str, Any]]:
    body = house.send("POST", "/batch", json={"user_ids": USERS, **asked}).json()
    return {part["user_id"]: part["answer"] for part in body["answers"]}


def test_users_are_split_and_told_which_side_answered(tmp_path: Path) -> None:
    house = house_of(tmp_path)
    assert house.canary is not None
    assert house.canary.poll()
    answers = served(house)
    sides = {(answer["alias"], answer["model_version"]) for answer in answers.values()}
    assert sides == {("champion", "run/v2"), ("canary", "run/v1")}
    for user_id, answer in answers.items():
        model = recommender(int(answer["model_version"].removeprefix("run/v")))
        best = model.recommend(sequence_of(user_id), now_ms=QUERY_MS, k=10)
        assert [item["item_id"] for item in answer["items"]] == [item_id for item_id, _ in best]


def test_a_user_stays_on_one_side_and_a_larger_share_keeps_those_it_had(tmp_path: Path) -> None:
    """A user would see two lists in turns, and no side's quality could be told."""
    house = house_of(tmp_path)
    users = [f"u{number}" for number in range(4_000)]

    def canary_s(share: float) -> set[str]:
        split = Split(house.follower, house.canary, share)
        return {user_id for user_id in users if split.of(user_id) is house.canary}

    assert canary_s(0.2) == canary_s(0.2)
    # On every server, of every version, the same.
    assert sorted(canary_s(0.001)) == GOLDEN
    assert house.canary is not None
    house.canary.alias = "other"
    assert sorted(canary_s(0.001)) != GOLDEN
    assert canary_s(0.2) < canary_s(0.5)
    assert len(canary_s(0.2)) == pytest.approx(800, abs=100)
    assert (canary_s(0.0), len(canary_s(1.0))) == (set(), len(users))
    assert Split(house.follower, None, 1.0).of("u") is house.follower


def test_what_the_canary_cannot_answer_the_champion_does(tmp_path: Path) -> None:
    """A share of the users would be without lists because of a test on them."""
    house = house_of(tmp_path, canary_share=1.0)
    health, first, metrics = house.ask_each(("/healthz", {}), ("/recommend", {"user_id": "u"}), ("/metrics", {}))
    assert (first.json()["alias"], first.json()["model_version"]) == ("champion", "run/v2")
    assert "headwater_canary_fallbacks_total 1.0" in metrics.text.splitlines()
    champion, canary = health.json()["sides"]
    assert (champion["model_version"], canary["model_version"]) == ("run/v2", None)


def test_an_answer_of_the_canary_says_nothing_of_the_champion_s_freshness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events would count as known before the champion has answered."""
    house = house_of(tmp_path, canary_share=1.0)
    assert house.canary is not None
    house.canary.poll()
    answered: dict[str, list[int]] = {"champion": [], "canary": []}
    for follower in (house.follower, house.canary):
        monkeypatch.setattr(follower.freshness, "answered", answered[follower.alias].append)
    house.ask("/recommend", user_id="u")
    assert answered == {"champion": [], "canary": [1]}


def test_a_canary_that_is_no_alias_is_told(tmp_path: Path) -> None:
    house = House(tmp_path, **SETTINGS)
    house.publish(1)
    assert house.canary is not None
    assert not house.canary.poll()
    canary = house.ask("/healthz").json()["sides"][1]
    assert "there is no alias canary" in canary["problem"]


def test_a_user_of_the_canary_goes_back_to_no_older_version(tmp_path: Path) -> None:
    """Who has seen version 2 would be refused because the canary is version 1."""
    house = house_of(tmp_path, canary_share=1.0)
    assert house.canary is not None
    house.canary.poll()
    later, older = house.ask_each(
        ("/recommend", {"user_id": "u", "min_version": "run/v2"}),
        ("/recommend", {"user_id": "u", "min_version": "run/v1"}),
    )
    assert (later.json()["alias"], older.json()["alias"]) == ("champion", "canary")


def test_both_sides_qualities_are_shown(tmp_path: Path) -> None:
    house = house_of(tmp_path)
    assert house.canary is not None
    house.canary.poll()
    answers = served(house)
    house = house_of(tmp_path / "again", canary_share=0.75)
    assert house.canary is not None
    house.canary.poll()
    user_id = next(user for user, answer in answers.items() if answer["alias"] == "canary")
    best = recommender(1).recommend(sequence_of(user_id), now_ms=QUERY_MS, k=1)[0][0]

    async def ask() -> Any:
        async with house.client() as client:
            await client.get("/recommend", params={"user_id": user_id})
            house.workers.body = {"item_ids": ["i1", best], "ts_ms": [20, 30], "actions": [3, 1]}
            await client.get("/recommend", params={"user_id": user_id})
            return (await client.get("/healthz")).json()["sides"], (await client.get("/metrics")).text

    (champion, canary), text = asyncio.run(ask())
    assert (champion["alias"], champion["share"], champion["prequential"]) == ("champion", 0.25, {"hit_rate": 0.5})
    assert (canary["alias"], canary["model_version"], canary["prequential"]) == ("canary", "run/v1", {"hit_rate": 0.25})
    assert (champion["lists_followed"], champion["hit_rate"]) == (0, None)
    assert (canary["lists_followed"], canary["hit_rate"]) == (1, 1.0)
    lines = text.splitlines()
    assert 'headwater_lists_followed_total{alias="canary"} 1.0' in lines
    assert 'headwater_lists_hit_total{alias="canary"} 1.0' in lines
    assert 'headwater_answer_seconds_count{alias="canary"} 2.0' in lines
    assert 'headwater_alias_version{alias="canary",run_id="run"} 1.0' in lines
    assert 'headwater_alias_pinned{alias="canary"} 1.0' in lines


def told(actions: list[int], item_ids: list[str], first_ms: int = 10) -> SequenceColumns:
    times = [first_ms + 10 * place for place in range(len(item_ids))]
    empty = {"values": [None] * len(times), "groups": times}
    return SequenceColumns(**columns("u", actions=actions, item_ids=item_ids, ts_ms=times, feature_segments=[]) | empty)


def test_a_list_is_judged_by_the_first_actions_after_it() -> None:
    """Lists that nobody had time to answer would count as misses, and old likes as hits."""
    hits = ListHits()
    hits.listed(told([1, 0], ["a", "b"]), "champion", ["b", "c"])
    hits.read(told([1, 0, 0], ["a", "b", "x"]))
    assert (hits.num_followed["champion"], hits.hit_rate("champion")) == (0, None)
    hits.read(told([1, 1, 0], ["a", "b", "x"]))
    hits.read(told([1, 1, 1], ["a", "b", "x"]))
    assert (hits.num_followed["champion"], hits.hit_rate("champion")) == (1, 1.0)
    hits.listed(told([1, 1], ["a", "b"]), "champion", ["c"])
    hits.read(told([1, 1], ["b", "x"], first_ms=20))
    assert (hits.num_followed["champion"], hits.hit_rate("champion")) == (2, 0.5)
    # What was shown before something else was acted on, and is acted on now.
    hits.listed(told([0, 1], ["a", "b"]), "champion", ["a"])
    hits.read(told([1, 1], ["a", "b"]))
    assert (hits.num_followed["champion"], hits.num_hit["champion"]) == (3, 2)


def test_hits_are_on_the_first_items_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of 500 would be a hit whatever it holds; users who never return would be kept for ever."""
    monkeypatch.setattr("deploy.list_hits.MAX_USERS", 1)
    hits = ListHits()
    hits.listed(told([], []), "champion", [f"i{number}" for number in range(11)])
    hits.read(told([1], ["i10"]))
    assert (hits.num_followed["champion"], hits.num_hit["champion"]) == (1, 0)
    hits.listed(told([], []), "champion", ["a"])
    hits.listed(SequenceColumns(**columns("other", feature_segments=[])), "champion", ["a"])
    hits.read(told([1], ["a"]))
    assert hits.num_followed["champion"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canary_share": 1.5}, "canary_share must be 0 to 1, got 1.5"),
        ({"canary_alias": "champion"}, "canary_alias must be another alias than alias"),
        ({"canary_alias": "../x"}, "alias must be 1 to 64 of a-z"),
    ],
)
def test_what_is_no_canary_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeSettings(**changes)

"""A worker's answers: a user's sequence now and as of a position, and what is asked wrongly."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from storage.changes import Acted, Change, Exposed, Updated
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.views import Views

ACTIONS = ("click", "rate")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SequenceStore]:
    """Ada was shown two films, clicked the second and rated it; then she was shown more than the cap holds."""
    settings = StoreSettings(folder=tmp_path, actions=ACTIONS, cap=20, sample_exposures=10)
    opened = SequenceStore.open(settings, topic="events", partition=0, num_partitions=1, topic_id="t")
    changes: list[Change] = [
        Exposed(offset=0, user_id="ada", ts_ms=10, kafka_ms=0, item_ids=["a", "b"]),
        Acted(offset=1, user_id="ada", ts_ms=11, kafka_ms=0, item_id="b", action=0, value=2.0),
        Acted(offset=2, user_id="ada", ts_ms=12, kafka_ms=0, item_id="b", action=1, value=4.5),
    ]
    opened.apply(0, 2, changes)
    yield opened
    opened.close()


@pytest.fixture
def views(store: SequenceStore) -> Views:
    partitions = SimpleNamespace(topic="events", stores={0: store}, description=SimpleNamespace(num_partitions=1))
    return Views(cast("Any", None), cast("Any", partitions), cast("Any", None))


def test_values_come_newest_by_event_and_one_by_one(views: Views) -> None:
    """Serving reads one value an event, `verify` all of them."""
    status, answer = views.sequence("ada", None)
    assert status == 200
    assert (answer["item_ids"], answer["actions"], answer["groups"], answer["indexes"]) == (
        ["a", "b"],
        [0, 3],
        [0, 0],
        [0, 1],
    )
    assert answer["values"] == [None, 4.5]
    assert answer["valued"] == [(1, 0, 2.0), (1, 1, 4.5)]


def test_features_come_as_they_are_and_as_they_changed(views: Views, store: SequenceStore) -> None:
    """Serving would know a feature, but not when it changed: another sequence than the learner's."""
    for offset, (ts_ms, age) in enumerate([(5, 30), (12, 31), (13, 31)], 3):
        store.apply(offset, offset, [Updated(offset, "ada", ts_ms, {"age": age})])
    _, answer = views.sequence("ada")
    assert answer["features"] == {"age": 31}
    assert answer["feature_segments"] == [(5, 0, "age", 30), (12, 2, "age", 31)]
    assert views.sequence("ada", None, "3")[1]["features"] == {"age": 30}


def test_a_sequence_can_be_asked_for_as_of_a_position(views: Views) -> None:
    """What comes while `verify` runs would look like damage."""
    assert views.sequence("ada", None, "1")[1]["actions"] == [0, 1]
    assert views.sequence("ada", "1", "0")[1]["item_ids"] == ["b"]


def test_a_position_that_is_no_longer_kept_is_gone(views: Views, store: SequenceStore) -> None:
    """A part of the sequence would be taken for the whole."""
    items = [f"i{number}" for number in range(40)]
    store.acknowledge(key for key, _ in store.outbox(10))
    store.apply(3, 3, [Exposed(offset=3, user_id="ada", ts_ms=20, kafka_ms=0, item_ids=items)])
    store.acknowledge(key for key, _ in store.outbox(10))
    status, answer = views.sequence("ada", None, "1")
    assert status == 410
    assert "is no longer kept" in answer["error"]
    assert views.sequence("ada", None, "3")[0] == 200


@pytest.mark.parametrize("until", ["", "-1", "x", "1.0", "9223372036854775808", "٣"])
def test_a_position_that_is_none_is_refused(views: Views, until: str) -> None:
    """It would be read as another one, or end in a traceback."""
    status, answer = views.sequence("ada", None, until)
    assert status == 400
    assert answer["error"].startswith("until must be a position")


def test_only_what_is_new_is_told_to_who_names_what_he_has(views: Views, store: SequenceStore) -> None:
    """The whole sequence would be sent for each answer of a server."""
    status, first = views.sequence("ada", since="0", digest="")
    assert (status, first["kept"], first["item_ids"]) == (200, 0, ["a", "b"])
    _, nothing = views.sequence("ada", since="2", digest=first["digest"])
    assert (nothing["kept"], nothing["item_ids"], nothing["digest"]) == (2, [], first["digest"])
    store.apply(3, 3, [Exposed(offset=3, user_id="ada", ts_ms=20, kafka_ms=0, item_ids=["c"])])
    _, news = views.sequence("ada", since="2", digest=first["digest"])
    assert (news["kept"], news["item_ids"], news["groups"]) == (2, ["c"], [3])
    store.apply(4, 4, [Acted(offset=4, user_id="ada", ts_ms=21, kafka_ms=0, item_id="b", action=1, value=3.0)])
    _, folded = views.sequence("ada", since="3", digest=news["digest"])
    assert (folded["kept"], folded["item_ids"], folded["values"]) == (1, ["b", "c"], [3.0, None])


def test_who_names_something_else_is_told_the_whole(views: Views, store: SequenceStore) -> None:
    """A reader's events, of another log or of before they were forgotten, would be joined with others."""
    assert views.sequence("ada", since="1", digest="0" * 32)[1]["kept"] == 0
    digest = views.sequence("ada", since="0", digest="")[1]["digest"]
    items = [f"i{number}" for number in range(40)]
    store.acknowledge(key for key, _ in store.outbox(10))
    store.apply(3, 3, [Exposed(offset=3, user_id="ada", ts_ms=20, kafka_ms=0, item_ids=items)])
    store.acknowledge(key for key, _ in store.outbox(10))
    status, answer = views.sequence("ada", since="2", digest=digest)
    assert (status, answer["kept"], len(answer["item_ids"])) == (200, 0, 20)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"since": "x"}, "since must be a position"),
        ({"since": "-1", "digest": ""}, "since must be a position"),
        ({"since": "1", "last": "5"}, "neither with last"),
        ({"since": "1", "until": "5"}, "nor with until"),
        ({"since": "1", "digest": "0" * 33}, "the digest of what was read"),
    ],
)
def test_news_that_cannot_be_told_are_refused(views: Views, asked: dict[str, str], message: str) -> None:
    """A part would be taken for the news."""
    status, answer = views.sequence("ada", **asked)
    assert status == 400
    assert message in answer["error"]

"""`verify` finds each kind of damage to sequences and dead letters, and nothing where there is none."""

from dataclasses import replace

import pytest
from msgspec import structs

from storage.entries import pack_position
from streams import expected as expected_module
from streams import verify
from streams.dead_letters import DeadLetterRecord
from streams.events import Action, Forget, Impression
from streams.expected import ExpectedState, expected_state
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicDescription
from streams.verify import VerifyReport, compare_dead_letters, compare_sequences
from tests.streams.made_events import KAFKA, OLD, RULES, TOPICS, Log, Record, Workers, the_log
from tests.streams.made_samples import LOG_ID


def found(expected: ExpectedState, workers: Workers) -> dict[str, int]:
    """What is not 0 after the sequences were compared."""
    report = VerifyReport()
    compare_sequences(expected, workers, report)
    assert report.is_exact == (not any(report.findings.values()))
    return {name: count for name, count in report.findings.items() if count}


def test_a_clean_state_gives_zeros() -> None:
    """A proof that finds faults where there are none is ignored."""
    expected = the_log().expected()
    assert found(expected, Workers(expected)) == {}


def test_what_the_log_says_is_counted() -> None:
    """The report's totals are what the counters of a run are held against."""
    expected = the_log().expected()
    assert (expected.events, expected.impressions) == (9, 5)
    assert expected.refused == {(0, 6): "malformed_json", (1, 3): "malformed_json"}
    assert expected.last_offsets == {0: 7, 1: 3}
    assert expected.due == {0: (5, 0), 1: (1, 0)}
    assert (expected.num_users, expected.end(0), expected.begin(1)) == (2, 7, 0)


def test_a_worker_that_did_not_forget_a_user_is_found() -> None:
    """A user of whom the log says nothing any more would be passed over."""
    log = the_log()
    workers = Workers(log.expected())
    log.add(Forget(user_id="ada", ts_ms=100))
    expected = log.expected()
    assert found(expected, workers) == {"duplicated": 7}
    assert found(expected, Workers(expected)) == {}
    assert expected.num_users == 2


def test_sequences_are_asked_for_as_of_the_log_s_end() -> None:
    """What comes while `verify` runs would count as doubled."""
    expected = the_log().expected(epoch=2)
    workers = Workers(expected)
    found(expected, workers)
    assert workers.asked == {"ada": pack_position(2, 7), "bob": pack_position(2, 3)}


def test_a_sequence_that_has_moved_on_is_neither_right_nor_wrong() -> None:
    """A trim while `verify` runs would be reported as loss."""
    expected = the_log().expected()
    workers = Workers(expected)
    workers.kept = False
    report = VerifyReport()
    compare_sequences(expected, workers, report)
    assert (report.moved_on, report.is_exact) == (2, True)


def test_what_changes_nothing_is_counted() -> None:
    """A producer that sends everything twice would look like one that is fine."""
    log, rules = Log(), replace(RULES, cap=3, exposure_rate=0.5, sample_exposures=99)
    for place in range(6):
        log.add(Action(event_id=f"e{place % 5}", user_id="ada", ts_ms=50 + place, item_id=f"a{place}", action="like"))
    log.add(Action(event_id="e6", user_id="ada", ts_ms=60, item_id="a6", action="like"))
    log.add(Action(event_id="e7", user_id="ada", ts_ms=9, item_id="late", action="like"))
    log.add(Impression(user_id="bob", ts_ms=5, items=["a", "b"]))
    for number in range(2):
        log.add(Impression(user_id="eve", ts_ms=number, items=[f"i{number}{place}" for place in range(2)]))
    expected = ExpectedState(rules, LOG_ID)
    for record in log.records:
        expected.apply(record, 0)
    report = VerifyReport()
    compare_sequences(expected, Workers(expected), report)
    assert (report.duplicates, report.too_late, report.capped_out) == (1, 1, 3)
    left = sum(len(user.sequence(rules)[0]) for _, user_id, user in expected.users() if user_id != "ada")
    assert report.sampled_out == 6 - left > 0
    assert report.is_exact


def test_a_missing_event_is_found() -> None:
    """The loss of one exposure must show."""
    expected = the_log().expected()
    workers = Workers(expected)
    del workers.rows["ada"][3]
    assert found(expected, workers) == {"missing": 1}


def test_a_user_who_is_missing_altogether_is_found() -> None:
    """A partition that was never applied gives empty sequences, not errors."""
    expected = the_log().expected()
    workers = Workers(expected)
    workers.rows["bob"] = []
    assert found(expected, workers) == {"missing": 1}


def test_a_duplicated_event_is_found() -> None:
    """A record that was applied twice stands there twice."""
    expected = the_log().expected()
    workers = Workers(expected)
    workers.rows["ada"].insert(2, workers.rows["ada"][2])
    assert found(expected, workers) == {"duplicated": 1}


def test_an_event_that_the_log_does_not_hold_is_found() -> None:
    """An event of another user's would pass."""
    expected = the_log().expected()
    workers = Workers(expected)
    workers.rows["bob"].append(["z", 9, 0, [], 77, 0])
    assert found(expected, workers) == {"duplicated": 1}


def test_events_in_another_order_are_found() -> None:
    """A sequence that is right as a set can still teach the wrong thing."""
    expected = the_log().expected()
    workers = Workers(expected)
    rows = workers.rows["ada"]
    rows[1], rows[2] = rows[2], rows[1]
    assert found(expected, workers) == {"out_of_order": 1}


@pytest.mark.parametrize(
    ("column", "value"), [(0, "z"), (1, 11), (2, 3), (2, 0), (3, []), (3, [(0, 4.5)]), (3, [(1, 4.0)])]
)
def test_a_different_value_is_found(column: int, value: object) -> None:
    """An action that was folded twice, or onto another exposure, leaves every event in its place."""
    expected = the_log().expected()
    workers = Workers(expected)
    assert workers.rows["ada"][0][column] != value
    workers.rows["ada"][0][column] = value
    assert found(expected, workers) == {"different": 1}


def test_kinds_of_damage_add_up_over_users() -> None:
    """A report that stops at the first finding hides how bad it is."""
    expected = the_log().expected()
    workers = Workers(expected)
    del workers.rows["ada"][0]
    workers.rows["ada"][0][2] = 2
    workers.rows["ada"].append(workers.rows["ada"][-1])
    workers.rows["bob"] = []
    assert found(expected, workers) == {"missing": 2, "duplicated": 1, "different": 1}


def test_events_of_a_former_epoch_are_passed_over() -> None:
    """The store keeps sequences when the topic is made anew; the log knows only the new one."""
    expected = the_log().expected(epoch=1)
    workers = Workers(expected)
    workers.rows["ada"].insert(0, ["old", 1, 1, [], OLD, 0])
    assert found(expected, workers) == {}


def test_what_came_again_after_a_former_epoch_is_not_missing() -> None:
    """The same data is often sent again into the new topic."""
    expected = the_log().expected(epoch=1)
    workers = Workers(expected)
    for row in workers.rows["ada"]:
        row[4] = OLD
    assert found(expected, workers) == {}


def test_an_action_on_what_a_former_epoch_showed_is_not_missing() -> None:
    """The store folds it onto an exposure that is no longer in the log."""
    log = the_log()
    log.add(Action(user_id="ada", ts_ms=70, item_id="old", action="like"))
    expected = log.expected(epoch=1)
    workers = Workers(expected)
    (organic,) = [row for row in workers.rows["ada"] if row[0] == "old"]
    organic[1], organic[4] = 60, OLD
    assert found(expected, workers) == {}


def test_a_loss_shows_even_where_a_former_epoch_is_kept() -> None:
    """Whoever had a topic made anew would never be told of a loss again."""
    expected = the_log().expected(epoch=1)
    workers = Workers(expected)
    workers.rows["ada"][0] = ["old", 1, 1, [], OLD, 0]
    assert found(expected, workers) == {"missing": 1}


def letters(monkeypatch: pytest.MonkeyPatch, *places: tuple[int, int, str]) -> VerifyReport:
    """The report where these dead letters, (partition, offset, cause), are in the topic."""
    made = [
        DeadLetterRecord(
            cause=cause,
            message="",
            topic="events",
            partition=partition,
            offset=offset,
            kafka_ms=0,
            size=1,
            sha256="",
            key=b"",
            head=b"",
            letter_id=f"0-{partition}-{offset}",
        )
        for partition, offset, cause in places
    ]
    theirs = [structs.replace(letter, topic="theirs", cause="too_large") for letter in made]
    monkeypatch.setattr(verify, "read_dead_letters", lambda kafka, topics: iter([*made, *theirs]))
    report = VerifyReport()
    compare_dead_letters(the_log().expected(), KAFKA, TOPICS, report)
    assert report.is_exact == (report.dead_letters_missing == 0)
    assert report.dead_letters == 2
    assert report.dead_letters_by_cause == {"malformed_json": 2}
    return report


RIGHT = ((0, 6, "malformed_json"), (1, 3, "malformed_json"))


def test_whole_dead_letters_give_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters of an earlier run in the same topic are no fault."""
    assert letters(monkeypatch, *RIGHT).dead_letters_missing == 0
    assert letters(monkeypatch, *RIGHT, (0, 99, "id_length")).dead_letters_missing == 0


@pytest.mark.parametrize(
    "places",
    [
        RIGHT[:1],
        ((0, 6, "malformed_json"), (1, 3, "too_large")),
        ((0, 6, "malformed_json"), (0, 3, "malformed_json")),
    ],
)
def test_a_missing_dead_letter_is_found(
    monkeypatch: pytest.MonkeyPatch, places: tuple[tuple[int, int, str], ...]
) -> None:
    """A record that was dropped in silence, or blamed for something else, would pass."""
    assert letters(monkeypatch, *places).dead_letters_missing == 1


def test_the_whole_log_is_folded_with_each_partition_s_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions hold the epoch: with a wrong one every event would be missing."""
    log = the_log()

    def read(kafka: KafkaSettings, topic: str) -> list[Record]:
        assert topic == "events"
        return log.records

    monkeypatch.setattr(expected_module, "read_topic", read)
    monkeypatch.setattr(expected_module, "first_offsets", lambda kafka, topic: {1: 0})
    described = TopicDescription(topic_id="log-9", num_partitions=2)
    monkeypatch.setattr(expected_module, "existing_topic", lambda kafka, topic: described)
    expected = expected_state(KAFKA, TOPICS, RULES, {0: 2, 1: 5}.__getitem__)
    groups = {user_id: user.sequence(RULES)[0][0].row.position for _, user_id, user in expected.users()}
    assert groups == {"ada": pack_position(2, 0), "bob": pack_position(5, 0)}
    assert (expected.due, expected.topic_id) == ({0: (5, 0), 1: (1, 0)}, "log-9")

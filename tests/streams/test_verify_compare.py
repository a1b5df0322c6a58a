"""`verify` finds each kind of damage, and nothing where there is none."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from storage.entries import pack_position
from streams import verify
from streams.dead_letters import DeadLetterRecord
from streams.events import Action, Event, Impression, Tick, encode_event
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.plain_fold import FoldRules
from streams.topics import TopicSettings
from streams.verify import (
    ExpectedState,
    VerifyReport,
    compare_dead_letters,
    compare_learned,
    compare_sequences,
    expected_state,
)
from tests.streams.made_samples import sample_factory

RULES = FoldRules(actions=("like", "dislike"), cap=100, sample_every=1, sample_exposures=50)
KAFKA, TOPICS = KafkaSettings(), TopicSettings()


class Record(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp: int = 1_000_000


class Log:
    """The topic `events`, written by hand."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.ends = [0, 0]

    def add(self, event: Event | bytes, *, partition: int = 0, key: bytes | None = None) -> None:
        if not isinstance(event, bytes):
            key = None if isinstance(event, Tick) else event.user_id.encode()
            event = encode_event(event)
        self.records.append(Record(partition, self.ends[partition], key, event))
        self.ends[partition] += 1

    def expected(self, epoch: int = 0) -> ExpectedState:
        state = ExpectedState()
        for record in self.records:
            state.apply(record, epoch, RULES)
        return state


def the_log() -> Log:
    """Ada is shown three films, acts on them, is shown one more; Bob has one of each; two records are bad."""
    log = Log()
    for place, item in enumerate(["a", "b", "c"]):
        log.add(Impression(event_id="i", user_id="ada", ts_ms=10 * place, items=[item, f"{item}2"]))
        log.add(Action(event_id="a", user_id="ada", ts_ms=10 * place, item_id=item, action="like", value=4.0))
    log.add(b"{", key=b"ada")
    log.add(Impression(event_id="i", user_id="bob", ts_ms=5, items=["a"]), partition=1)
    log.add(Action(event_id="a", user_id="bob", ts_ms=6, item_id="a", action="dislike"), partition=1)
    log.add(Tick(event_id="t", ts_ms=7), partition=1)
    log.add(Impression(event_id="i", user_id="ada", ts_ms=99, items=["d"]))
    log.add(b"", key=b"bob", partition=1)
    return log


COLUMNS = ("item_ids", "ts_ms", "actions", "values", "groups", "indexes")


class Workers:
    """The sequences as right workers have them; `rows` may be damaged."""

    def __init__(self, expected: ExpectedState) -> None:
        self.rows = {
            user_id: [[e.item_id, e.ts_ms, e.actions, e.value, e.group, e.index] for e in user.sequence()]
            for user_id, user in expected.users.items()
        }

    def epoch(self, partition: int) -> int:
        return 0

    def wait_applied(self, last_offsets: Mapping[int, int]) -> None:
        pass

    def sequence(self, user_id: str) -> Mapping[str, Any]:
        columns = zip(*self.rows[user_id], strict=True) if self.rows[user_id] else [[] for _ in COLUMNS]
        return {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}


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
    assert (expected.events, expected.impressions) == (10, 5)
    assert expected.refused == {(0, 6): "malformed_json", (1, 3): "malformed_json"}
    assert expected.last_offsets == {0: 7, 1: 3}
    assert expected.due_offsets == {0: 5, 1: 1}


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
    workers.rows["bob"].append(["z", 9, 0, None, 77, 0])
    assert found(expected, workers) == {"duplicated": 1}


def test_events_in_another_order_are_found() -> None:
    """A sequence that is right as a set can still teach the wrong thing."""
    expected = the_log().expected()
    workers = Workers(expected)
    rows = workers.rows["ada"]
    rows[1], rows[2] = rows[2], rows[1]
    assert found(expected, workers) == {"out_of_order": 1}


@pytest.mark.parametrize(("column", "value"), [(0, "z"), (1, 11), (2, 3), (2, 0), (3, None), (3, 4.5)])
def test_a_different_value_is_found(column: int, value: object) -> None:
    """An action that was folded twice, or onto another exposure, leaves every event in its place."""
    expected = the_log().expected()
    workers = Workers(expected)
    assert workers.rows["ada"][0][column] != value
    workers.rows["ada"][0][column] = value  # type: ignore[call-overload]  # rows are mixed
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
    workers.rows["ada"].insert(0, ["old", 1, 1, None, pack_position(0, 3), 0])
    assert found(expected, workers) == {}


def learned(expected: ExpectedState) -> LearnedRanges:
    """Ranges of a learner that missed nothing: one sample for each action."""
    ranges = LearnedRanges()
    for place in range(3):
        learn(ranges, "ada", 2 * place - 1, 2 * place + 1, 3)
    learn(ranges, "bob", -1, 1, 2)
    assert {user_id: ranges.of(user_id)["records"] for user_id in ("ada", "bob")} == {
        user_id: user.due_records for user_id, user in expected.users.items()
    }
    return ranges


def learn(ranges: LearnedRanges, user_id: str, since: int, trigger: int, num_records: int) -> None:
    ranges.add(sample_factory(user_id=user_id, since=since, num_records=num_records), trigger)


def learned_report(ranges: LearnedRanges) -> tuple[int, int, int]:
    """(lost, learned twice, pending)."""
    report = VerifyReport()
    compare_learned(the_log().expected(), ranges, report)
    assert report.is_exact == (not report.samples_lost and not report.samples_learned_twice)
    return report.samples_lost, report.samples_learned_twice, report.pending


def test_a_clean_learner_gives_zeros_and_says_what_is_pending() -> None:
    """What is not due yet is neither lost nor learned."""
    assert learned_report(learned(the_log().expected())) == (0, 0, 1)


def test_a_learner_that_learned_nothing_lost_all_that_is_due() -> None:
    """An empty snapshot would look like a quiet stream."""
    assert learned_report(LearnedRanges()) == (11, 0, 1)


def test_a_lost_last_sample_is_found() -> None:
    """No gap shows where nothing came after it: the number of records does."""
    ranges = LearnedRanges()
    learn(ranges, "ada", -1, 1, 3)
    learn(ranges, "ada", 1, 3, 3)
    learn(ranges, "bob", -1, 1, 2)
    assert learned_report(ranges) == (3, 0, 1)


def test_a_lost_sample_in_the_middle_is_found() -> None:
    """The usual loss: an offset that was passed too early."""
    ranges = LearnedRanges()
    learn(ranges, "ada", -1, 1, 3)
    learn(ranges, "ada", 3, 5, 3)
    learn(ranges, "bob", -1, 1, 2)
    assert learned_report(ranges) == (3, 0, 1)


def test_a_sample_that_was_learned_twice_is_found() -> None:
    """The usual repeat: marks that were cut before the weights."""
    ranges = learned(the_log().expected())
    learn(ranges, "ada", 3, 5, 3)
    assert learned_report(ranges) == (0, 3, 1)


def test_a_loss_and_a_repeat_of_equal_size_are_both_found() -> None:
    """The number of records alone would be right."""
    ranges = LearnedRanges()
    learn(ranges, "ada", -1, 1, 3)
    learn(ranges, "ada", -1, 1, 3)
    learn(ranges, "ada", 3, 5, 3)
    learn(ranges, "bob", -1, 1, 2)
    lost, twice, _ = learned_report(ranges)
    assert lost > 0
    assert twice > 0


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
    asked: list[int] = []

    def list_letters(kafka: KafkaSettings, topics: TopicSettings, limit: int) -> list[DeadLetterRecord]:
        asked.append(limit)
        return made

    monkeypatch.setattr(verify, "list_dead_letters", list_letters)
    report = VerifyReport()
    compare_dead_letters(the_log().expected(), KAFKA, TOPICS, report)
    assert asked[0] >= 2
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

    monkeypatch.setattr(verify, "read_topic", read)
    expected = expected_state(KAFKA, TOPICS, RULES, {0: 2, 1: 5}.__getitem__)
    groups = {user_id: user.sequence()[0].group for user_id, user in expected.users.items()}
    assert groups == {"ada": pack_position(2, 0), "bob": pack_position(5, 0)}
    assert expected.due_offsets == {0: 5, 1: 1}

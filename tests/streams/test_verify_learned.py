"""`verify` finds records that were lost to the learner or learned twice, and nothing where there are none."""

from dataclasses import replace

import pytest

from storage.entries import pack_position
from storage.manifest import SampleMark
from streams import expected as expected_module
from streams.events import Action, Forget, Impression, Tick
from streams.expected import ExpectedState
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.verify import VerifyReport, compare_learned
from tests.streams.made_events import KAFKA, OLD, RULES, TOPICS, Log, Record, the_log
from tests.streams.made_samples import LOG_ID, sample_factory


def learned(expected: ExpectedState) -> LearnedRanges:
    """Ranges of a learner that missed nothing: one sample for each action."""
    ranges = LearnedRanges()
    for place in range(3):
        learn(ranges, "ada", 2 * place - 1, 2 * place + 1, 3)
    learn(ranges, "bob", -1, 1, 2)
    assert {user_id: ranges.of(user_id, LOG_ID)["records"] for user_id in ("ada", "bob")} == {
        user_id: user.due_records for _, user_id, user in expected.users()
    }
    return ranges


def learn(ranges: LearnedRanges, user_id: str, since: int, trigger: int, num_records: int) -> None:
    ranges.add(sample_factory(user_id=user_id, since=since, num_records=num_records), trigger, LOG_ID)


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


def epoch_report(*chain: tuple[int, int, int], known_before: tuple[str, ...] = ()) -> tuple[int, int]:
    """(lost, learned twice) of Ada in epoch 1, who has learned these (since, trigger, records)."""
    log = Log()
    for place in range(4):
        log.add(Impression(user_id="ada", ts_ms=10 * place, items=[f"i{place}"]))
        log.add(Action(user_id="ada", ts_ms=10 * place, item_id=f"i{place}", action="like"))
    ranges = LearnedRanges()
    for since, trigger, num_records in chain:
        learn(ranges, "ada", since, trigger, num_records)
    report = VerifyReport()
    compare_learned(log.expected(epoch=1), ranges, report, known_before)
    return report.samples_lost, report.samples_learned_twice


def at(offset: int) -> int:
    return pack_position(1, offset)


LATER = ((at(1), at(3), 2), (at(3), at(5), 2), (at(5), at(7), 2))


def test_of_a_chain_that_began_in_a_former_epoch_the_later_part_is_compared() -> None:
    """Records of the former log would count as learned without having been there."""
    former = ((-1, OLD, 40), (OLD, at(1), 7))
    assert epoch_report(*former, *LATER) == (0, 0)
    assert epoch_report((-1, at(1), 2), *LATER) == (0, 0)
    assert epoch_report(*former, *LATER[:-1]) == (2, 0)
    assert epoch_report(*former, *LATER[:-2], LATER[-1])[0] > 0
    assert epoch_report(*former, *LATER, LATER[-1])[1] > 0
    assert epoch_report((-1, OLD, 40)) == (8, 0)


def test_a_gap_of_a_former_epoch_is_none_of_this_one() -> None:
    """It would be reported for ever, though nothing of it is in the log."""
    assert epoch_report((-1, OLD - 2, 9), (OLD - 1, OLD, 3), (OLD, at(1), 7), *LATER) == (0, 0)


def test_what_was_learned_of_another_log_counts_for_nothing() -> None:
    """With a store made from nothing both logs are in epoch 0: losses of this one would be made up for by the other."""
    ranges = LearnedRanges()
    for user_id, num_records in (("ada", 90), ("bob", 2)):
        ranges.add(sample_factory(user_id=user_id, num_records=num_records), 900, "log-0")
    assert learned_report(ranges) == (11, 0, 1)


def test_marks_of_another_log_are_not_read_on_to() -> None:
    """The log would be waited for up to an offset that it may never reach."""
    expected = the_log().expected()
    marks = {
        0: SampleMark(topic_id="log-0", epoch=0, trigger_offset=900, n=0),
        7: SampleMark(topic_id=LOG_ID, epoch=0, trigger_offset=900, n=0),
    }
    expected.read_on(KAFKA, TOPICS, marks)
    assert learned_report(learned(expected)) == (0, 0, 1)


def test_records_that_may_be_former_ones_again_are_neither_lost_nor_doubled() -> None:
    """Duplicates of a former epoch are in the log and in no sample."""
    assert epoch_report(known_before=("ada",)) == (0, 0)
    assert epoch_report((-1, at(3), 9), known_before=("ada",)) == (0, 0)
    lost, _ = epoch_report((-1, at(1), 2), LATER[1], known_before=("ada",))
    assert lost > 0


def test_samples_beyond_the_log_s_end_are_held_against_the_log_up_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever learns while `verify` runs would have learned too much."""
    log = the_log()
    expected = log.expected()
    log.add(Action(user_id="ada", ts_ms=120, item_id="d", action="like"))
    log.add(Action(user_id="ada", ts_ms=121, item_id="d", action="dislike"))

    def read(kafka: KafkaSettings, topic: str, first: dict[int, int], last: dict[int, int]) -> list[Record]:
        assert (topic, first, last) == ("events", {0: 8}, {0: 8})
        return [record for record in log.records if record.partition == 0 and record.offset == 8]

    monkeypatch.setattr(expected_module, "read_range", read)
    marks = {0: SampleMark(epoch=0, trigger_offset=8, n=0), 1: SampleMark(epoch=0, trigger_offset=1, n=0)}
    expected.read_on(KAFKA, TOPICS, marks)
    ranges = LearnedRanges()
    for place in range(3):
        learn(ranges, "ada", 2 * place - 1, 2 * place + 1, 3)
    learn(ranges, "ada", 5, 8, 2)
    learn(ranges, "bob", -1, 1, 2)
    report = VerifyReport()
    compare_learned(expected, ranges, report)
    assert report.is_exact


def test_of_one_record_s_samples_those_behind_the_mark_are_not_due_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version may be cut between two samples of one tick."""
    log, rules = Log(), replace(RULES, session_gap_ms=50)
    for user_id in ("ada", "bob"):
        log.add(Impression(user_id=user_id, ts_ms=5, items=["a"]))
    expected = ExpectedState(rules, LOG_ID)
    for record in log.records:
        expected.apply(record, 0)
    log.add(Tick(ts_ms=100))
    monkeypatch.setattr(expected_module, "read_range", lambda *_: log.records[2:])
    expected.read_on(KAFKA, TOPICS, {0: SampleMark(epoch=0, trigger_offset=2, n=0)})
    ranges = LearnedRanges()
    learn(ranges, "ada", -1, 2, 1)
    report = VerifyReport()
    compare_learned(expected, ranges, report)
    assert report.is_exact


def forgetful_log() -> Log:
    """Ada does something in four records, is forgotten, and comes again."""
    log = Log()
    for place in range(2):
        log.add(Impression(user_id="ada", ts_ms=10 * place, items=[f"i{place}"]))
        log.add(Action(user_id="ada", ts_ms=10 * place, item_id=f"i{place}", action="like"))
    log.add(Forget(user_id="ada", ts_ms=50))
    log.add(Impression(user_id="ada", ts_ms=60, items=["a"]))
    log.add(Action(user_id="ada", ts_ms=60, item_id="a", action="like"))
    return log


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_chain_that_begins_anew_where_a_user_was_forgotten_is_whole(epoch: int) -> None:
    """A sample that was not sent by then, and never will be, would be reported as lost for ever."""
    expected = forgetful_log().expected(epoch)
    begin = pack_position(epoch, 0)
    assert expected.due == {0: (6, 0)}
    for sent in ((), ((-1, 1, 2),), ((-1, 1, 2), (1, 3, 2))):
        ranges, report = LearnedRanges(), VerifyReport()
        for since, trigger, num_records in sent:
            learn(ranges, "ada", since if since < 0 else begin + since, begin + trigger, num_records)
        ranges.forget("ada")
        learn(ranges, "ada", -1, begin + 6, 2)
        compare_learned(expected, ranges, report)
        assert report.is_exact


def test_a_learner_that_did_not_forget_is_found() -> None:
    """The word would be lost, and nobody would know."""
    log = forgetful_log()
    ranges, report = LearnedRanges(), VerifyReport()
    learn(ranges, "ada", -1, 1, 2)
    learn(ranges, "ada", 1, 3, 2)
    learn(ranges, "ada", -1, 6, 2)
    compare_learned(log.expected(), ranges, report)
    assert report.samples_learned_twice > 0
    log.records = log.records[:5]
    ranges, report = LearnedRanges(), VerifyReport()
    learn(ranges, "ada", -1, 1, 2)
    compare_learned(log.expected(), ranges, report)
    assert report.samples_learned_twice == 2


def test_verify_waits_until_the_word_is_learned() -> None:
    """Ranges of a version before it would be held against a log that has it."""
    log = forgetful_log()
    log.records = log.records[:5]
    assert log.expected().due == {0: (4, 0)}

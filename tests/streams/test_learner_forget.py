"""The learner forgets a user: in the order of the samples, once, and in the next version."""

from typing import Any

import numpy as np
import pytest

from streams.forgotten import Forgotten
from streams.samples import Sample
from tests.streams.learner_bench import (
    Bench,
    BenchFactory,
    Killed,
    assert_chain_is_whole,
    assert_same_end,
    kill_after_step,
)
from tests.streams.made_samples import LOG_ID, SampleLog, forgotten_factory, make_samples


def word(user_id: str, after: Sample) -> Forgotten:
    """That a user was forgotten at the offset behind a sample's trigger, which made samples leave free."""
    return forgotten_factory(user_id=user_id, partition=after.partition, trigger_offset=after.trigger_offset + 1)


def samples_of_two(num: int) -> list[Sample]:
    """Samples of `u0` and `u1` in one partition; triggers are two apart."""
    return [
        sample_at(sample, place * 4 + 1)
        for place, sample in enumerate(make_samples(num, num_users=2, num_partitions=1))
    ]


def sample_at(sample: Sample, trigger_offset: int) -> Sample:
    """The same with triggers that leave room in between; `since` follows."""
    since = -1 if sample.since < 0 else (sample.since - 1) // 2 * 4 + 1
    fields: dict[str, Any] = {name: getattr(sample, name) for name in sample.__struct_fields__}
    return Sample(**(fields | {"trigger_offset": trigger_offset, "since": since}))


def is_known(bench: Bench, user_id: str) -> tuple[bool, bool]:
    """Whether the newest version names a user among the replayed, and among the ranges."""
    arrays = bench.arrays()
    texts = (arrays["replay.user_bytes"].tobytes(), arrays["learned.user_bytes"].tobytes())
    return texts[0].find(user_id.encode()) >= 0, texts[1].find(user_id.encode()) >= 0


def test_who_is_forgotten_is_neither_replayed_nor_noted(bench_factory: BenchFactory) -> None:
    """What a user did would be learned again and again, and stand in every version."""
    samples = samples_of_two(20)
    bench = bench_factory(SampleLog(1).send([*samples, word("u0", samples[-1])]))
    learner = bench.run()
    assert learner.model.num_events == 20
    assert learner.metrics.forgotten._value.get() == 1
    assert is_known(bench, "u0") == (False, False)
    assert is_known(bench, "u1") == (True, True)
    assert bench.newest().sample_marks["0"].trigger_offset == samples[-1].trigger_offset + 1


def test_the_samples_before_are_learned_first(bench_factory: BenchFactory) -> None:
    """They are gathered when the word comes: learned after it, they would bring back what is forgotten."""
    samples = samples_of_two(4)
    bench = bench_factory(SampleLog(1).send([*samples, word("u0", samples[-1])]))
    assert bench.run().model.num_events == 4
    assert is_known(bench, "u0") == (False, False)


def test_samples_after_are_the_first_of_a_new_chain(bench_factory: BenchFactory) -> None:
    """`verify` would find records that were learned twice, or a gap."""
    before = samples_of_two(10)
    last = before[-1].trigger_offset
    after = [sample_at(sample, last + 2 + place) for place, sample in enumerate(samples_of_two(4))]
    own = [sample for sample in after if sample.user_id == "u0"][:1]
    bench = bench_factory(SampleLog(1).send([*before, word("u0", before[-1]), *own]))
    bench.run()
    assert bench.ranges().of("u0", LOG_ID) == {
        "position": own[0].trigger_offset,
        "records": own[0].num_records,
        "gaps": 0,
        "overlaps": 0,
        "first": -1,
    }
    assert is_known(bench, "u0") == (True, True)


def test_a_word_that_comes_again_changes_nothing(bench_factory: BenchFactory) -> None:
    """A worker that was restored sends it again, behind samples that came after it."""
    before = samples_of_two(10)
    again = word("u0", before[3])
    chain = [sample for sample in before if sample.user_id == "u1"]
    bench = bench_factory(SampleLog(1).send([*before[:4], again, *chain[2:]]))
    bench.run()
    bench.log.send([*before[:4], again])
    learner = bench.run()
    assert learner.metrics.forgotten._value.get() == 0
    assert learner.metrics.duplicates._value.get() == 5
    assert bench.ranges().of("u1", LOG_ID)["records"] > 0


def test_a_version_is_published_for_it_alone(bench_factory: BenchFactory) -> None:
    """On a quiet stream the newest version would name the user for as long as nothing is learned."""
    samples = samples_of_two(10)
    bench = bench_factory(SampleLog(1).send(samples))
    first = bench.run()
    bench.log.send([word("u0", samples[-1])])
    second = bench.run()
    assert second.model.version == first.model.version + 1
    assert is_known(bench, "u0") == (False, False)
    assert bench.newest().offsets == {"samples@t1": {"0": 11}}
    third = bench.run()
    assert third.model.version == second.model.version


def test_the_weights_stay_as_they_are(bench_factory: BenchFactory) -> None:
    """Nothing is unlearned, and nobody should believe that it is."""
    samples = samples_of_two(10)
    bench = bench_factory(SampleLog(1).send(samples))
    bench.run()
    before = bench.store.load(bench.newest(), "model")
    bench.log.send([word("u0", samples[-1])])
    bench.run()
    for name, array in bench.store.load(bench.newest(), "model").items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_the_first_record_of_all_may_be_the_word(bench_factory: BenchFactory) -> None:
    """A version without an item must be one that can be gone on from."""
    samples = samples_of_two(10)
    bench = bench_factory(SampleLog(1).send([forgotten_factory(user_id="u7", trigger_offset=0)]))
    bench.run()
    bench.log.send(samples)
    assert bench.run().model.num_events == 10
    assert_chain_is_whole(bench, samples)


def forgetful_log() -> SampleLog:
    """Two users, one of whom is forgotten halfway and comes again, with some records that come twice."""
    before = samples_of_two(30)
    last = before[-1].trigger_offset
    after = [moved_on(sample, last + 3) for sample in samples_of_two(30) if sample.user_id == "u0"]
    log = SampleLog(1).send([*before, word("u0", before[-1]), *after[:8]])
    return log.send([*before[20:], word("u0", before[-1]), *after])


def moved_on(sample: Sample, offset: int) -> Sample:
    """The same, so many offsets later."""
    fields: dict[str, Any] = {name: getattr(sample, name) for name in sample.__struct_fields__}
    since = -1 if sample.since < 0 else sample.since + offset
    return Sample(**(fields | {"trigger_offset": sample.trigger_offset + offset, "since": since}))


@pytest.mark.parametrize("step", range(1, 6))
def test_a_learner_killed_around_the_word_ends_as_one_that_never_died(bench_factory: BenchFactory, step: int) -> None:
    """A user would stay known, or be forgotten twice, with what was learned since."""
    unbroken, bench = bench_factory(forgetful_log()), bench_factory(forgetful_log())
    killed = bench.learner()
    kill_after_step(killed, step)
    with pytest.raises(Killed):
        killed.run()
    bench.run()
    unbroken.run()
    assert_same_end(bench.store, unbroken.store)
    found = bench.ranges().of("u0", LOG_ID)
    own = [sample for sample in samples_of_two(30) if sample.user_id == "u0"]
    assert (found["records"], found["gaps"], found["overlaps"]) == (2 * len(own), 0, 0)

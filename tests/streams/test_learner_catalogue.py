"""The learner follows the catalogue: in the order of time, with its offset in each version."""

import dataclasses
import logging

import numpy as np
import pytest

from model.item_keys import item_keys
from model.packed_ids import unpack_ids
from model.recommender import Recommender
from streams.batch import MicroBatch
from streams.items import Item, Withdrawn
from tests.streams import learner_bench
from tests.streams.learner_bench import LEARN, MODEL, Bench, BenchFactory
from tests.streams.made_samples import CATALOGUE, SampleLog, make_samples, sample_factory

SAMPLES = make_samples(100)
"""One a second, from 0 on."""


def bench_of(bench_factory: BenchFactory, *news: tuple[int, Item | Withdrawn], num: int = 100) -> Bench:
    log = SampleLog().send(SAMPLES[:num])
    for kafka_ms, each in news:
        log.describe(kafka_ms, each)
    return bench_factory(log)


def answers(bench: Bench) -> set[str]:
    """What can be recommended to a user of the newest version."""
    batch = MicroBatch(0)
    batch.add(sample_factory(item_ids=["nothing"]))
    (sequence,) = batch.sequences()
    recommender = Recommender.from_state(MODEL, bench.arrays())
    return {item_id for item_id, _ in recommender.recommend(sequence, now_ms=100_000, k=100)}


def test_what_the_catalogue_says_is_in_the_version_with_its_offset(bench_factory: BenchFactory) -> None:
    """A restart would read it from another place than the weights are of, or not know it."""
    bench = bench_of(bench_factory, (0, Item(item_id="i1", categories=("a",))), (0, Item(item_id="i9")))
    learner = bench.run()
    assert bench.newest().offsets[f"{CATALOGUE}@c1"] == {"0": 2}
    assert sorted(bench.arrays()["contents.key"]) == sorted(item_keys(["i1", "i9"]))
    assert learner.metrics.described._value.get() == 2
    again = bench.learner()
    assert again.model.learner.num_described == 2


def test_an_item_that_is_not_available_is_in_no_answer_until_it_is(bench_factory: BenchFactory) -> None:
    """It would be shown though it is sold out."""
    gone, back = Item(item_id="i1", available=False), Item(item_id="i1")
    assert "i1" in answers_after(bench_factory)
    assert "i1" not in answers_after(bench_factory, (50_000, gone))
    assert "i1" in answers_after(bench_factory, (50_000, gone), (60_000, back))
    assert "i1" in answers_after(bench_factory, (50_000, gone), (60_000, Withdrawn("i1")))


def answers_after(bench_factory: BenchFactory, *news: tuple[int, Item | Withdrawn]) -> set[str]:
    bench = bench_of(bench_factory, *news)
    bench.run()
    return answers(bench)


def test_of_a_forgotten_item_nothing_is_kept_and_nothing_learned_again(bench_factory: BenchFactory) -> None:
    """What was to be forgotten would come back with the next event."""
    told, forgotten = Item(item_id="i1", title="secret"), Item(item_id="i1", forgotten=True)
    bench = bench_of(bench_factory, (0, told), (50_500, forgotten))
    learner = bench.run()
    arrays = bench.arrays()
    names = unpack_ids(arrays["items.id_bytes"], arrays["items.id_ends"])
    assert {"i0", "i2"} < set(names)
    assert "i1" not in names
    assert not arrays["contents.words"].any()
    assert learner.model.num_events == 100


def test_nothing_else_has_to_happen_for_a_version_without_a_forgotten_item(bench_factory: BenchFactory) -> None:
    """On a quiet stream the item would stay in what is served."""
    bench = bench_of(bench_factory)
    version = bench.run().model.version
    bench.log.describe(200_000, Item(item_id="i1", forgotten=True))
    learner = bench.run()
    assert learner.model.version == version + 1
    assert "i1" not in answers(bench)


def test_a_catalogue_that_was_made_anew_says_all_there_is_to_say(bench_factory: BenchFactory) -> None:
    """What the former one said of items would hold for ever."""
    bench = bench_of(bench_factory, (0, Item(item_id="i1", available=False)), (0, Item(item_id="i2")))
    bench.run()
    bench.log.items.clear()
    bench.log.describe(0, Item(item_id="i2"))
    bench.log.send(make_samples(110)[100:])
    assert bench.run(catalogue_id="c2").model.learner.num_described == 1
    assert list(bench.newest().offsets) == [f"{CATALOGUE}@c2", "samples@t1"]
    assert "i1" in answers(bench)


def test_what_holds_at_a_sample_is_what_was_said_before_it(bench_factory: BenchFactory) -> None:
    """The weights would depend on how fast the catalogue was read."""
    early, late = ((ms, Item(item_id="i1", categories=("a", "b"))) for ms in (0, 99_999_999))
    one, other = bench_of(bench_factory, early, num=96), bench_of(bench_factory, late, num=96)
    one.run()
    other.run()
    assert one.newest().step == other.newest().step
    assert not np.array_equal(one.arrays()["dense.words"], other.arrays()["dense.words"])
    assert not other.arrays()["dense.words"].any()


def test_a_record_that_is_no_item_is_counted_and_passed(bench_factory: BenchFactory) -> None:
    """One bad record would stop the learner for ever."""
    bench = bench_of(bench_factory, (0, Item(item_id="i1")))
    bench.log.items.append(bench.log.items[0]._replace(offset=1, value=b"{"))
    bench.log.describe(0, Item(item_id="i2"))
    learner = bench.run()
    assert learner.metrics.malformed._value.get() == 1
    assert learner.model.learner.num_described == 2


def test_items_beyond_the_bound_are_counted_and_named(
    bench_factory: BenchFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would hear why the newest items are known by nothing."""
    monkeypatch.setattr(learner_bench, "LEARN", dataclasses.replace(LEARN, max_described=1))
    bench = bench_of(bench_factory, (0, Item(item_id="i1")), (0, Item(item_id="i2")), (0, Item(item_id="i1")))
    with caplog.at_level(logging.WARNING):
        learner = bench.run()
    assert learner.metrics.undescribed._value.get() == 1
    assert "what is said of i2 is passed over" in caplog.text

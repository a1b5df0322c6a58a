"""The learner process's loop: nothing learned twice, nothing lost, the same weights however often it dies."""

import msgspec

from tests.streams.learner_bench import BenchFactory, assert_chain_is_whole, the_log
from tests.streams.made_samples import LOG_ID, TOPIC, SampleLog, make_samples, sample_factory


def test_records_that_are_no_samples_are_counted_and_passed(bench_factory: BenchFactory) -> None:
    """One bad record would stop the learner for ever: it never gets past its offset."""
    samples = make_samples(10, num_partitions=1)
    log = SampleLog(1).send(samples[:5])
    log.partitions[0] += [None, b"", b"\xff", b"\x81\xa7user_id\xa1\xff", b'{"json": 1}']
    log.send([sample_factory(trigger_offset=10_000, ts_ms=[])])
    log.send(samples[5:])
    bench = bench_factory(log)
    learner = bench.run()
    assert learner.metrics.malformed._value.get() == 6
    assert learner.model.num_events == 10
    assert bench.newest().offsets == {f"{TOPIC}@t1": {"0": 16}}


def test_a_restart_seeks_to_the_offsets_of_the_version(bench_factory: BenchFactory) -> None:
    """It would read the whole topic again, or what is no longer kept there."""
    bench = bench_factory(the_log())
    first = bench.run()
    ends = {number: len(values) for number, values in bench.log.partitions.items()}
    second = bench.run()
    assert first.consumer.sought == ["0@beginning", "1@beginning"]
    assert second.consumer.sought == [f"{number}@{end}" for number, end in ends.items()]
    assert second.model.version == first.model.version


def test_a_topic_made_anew_is_read_from_its_beginning(bench_factory: BenchFactory) -> None:
    """Offsets of the deleted topic would skip as many samples of the new one."""
    samples = make_samples(100)
    bench = bench_factory(SampleLog().send(samples[:60]))
    bench.run()
    bench.log = SampleLog().send(samples[50:])
    learner = bench.run(topic_id="t2")
    assert learner.consumer.sought == ["0@beginning", "1@beginning"]
    assert learner.metrics.duplicates._value.get() == 10
    assert list(bench.newest().offsets) == [f"{TOPIC}@t2"]
    assert_chain_is_whole(bench, samples)


def test_samples_of_a_new_log_are_no_duplicates(bench_factory: BenchFactory) -> None:
    """After `events` was made anew its offsets start at 0 again, below every mark."""
    bench = bench_factory(SampleLog().send(make_samples(20)))
    bench.run()
    bench.log.send([sample_factory(topic_id="log-2", epoch=1, trigger_offset=1)])
    learner = bench.run()
    assert learner.model.num_events == 21
    mark = bench.newest().sample_marks["0"]
    assert (mark.topic_id, mark.epoch, mark.trigger_offset, mark.n) == ("log-2", 1, 1, 0)
    assert list(mark.former) == [LOG_ID]


def test_a_sample_waits_no_longer_than_the_linger(bench_factory: BenchFactory) -> None:
    """On a quiet stream the last few events would stay unlearned until more come."""
    bench = bench_factory(SampleLog().send(make_samples(2)))
    bench.linger_seconds = 3.0
    learner = bench.learner()
    steps = []

    def note(number: int) -> None:
        bench.clock.tick(number)
        steps.append(learner.model.learner.num_steps)
        if number == 8:
            learner.stopping.set()

    learner.consumer.on_poll, learner.consumer.at_end = note, lambda: None
    learner.run()
    assert steps == [0, 0, 0, 0, 1, 1, 1, 1]


def test_nothing_is_published_while_nothing_is_new(bench_factory: BenchFactory) -> None:
    """An idle learner would fill the store with equal versions and push the good ones out."""
    bench = bench_factory(SampleLog().send(make_samples(2)))
    learner = bench.learner()

    def stop_late() -> None:
        if learner.consumer.num_polls > 40:
            learner.stopping.set()

    learner.consumer.at_end = stop_late
    learner.run()
    assert bench.newest().version == 1


def test_a_user_whose_new_event_left_the_later_sample_is_learned_first(bench_factory: BenchFactory) -> None:
    """A capped sequence drops events: joined into one row they would never be learned."""
    first = sample_factory()
    later = sample_factory(trigger_offset=3, since=1, item_ids=["i2"], ts_ms=[2_000], groups=[2], kafka_ms=[3, 4])
    bench = bench_factory(SampleLog(1).send([first, later]))
    learner = bench.run()
    assert learner.model.learner.num_steps == 2
    assert learner.model.num_events == 2


def test_the_metrics_follow_the_learner(bench_factory: BenchFactory) -> None:
    """The live table and the pace of the replay read them: they must end at what was learned and published."""
    bench = bench_factory(the_log())
    bench.linger_seconds = 0.0
    learner = bench.learner()
    stop, idle = learner.consumer.at_end, iter(range(3))
    learner.consumer.at_end = lambda: stop() if next(idle, None) is None else None
    learner.run()
    value = learner.metrics.registry.get_sample_value
    busy_seconds = value("headwater_learner_busy_seconds_total")
    assert busy_seconds is not None
    assert busy_seconds > 0
    assert value("headwater_steps_total") == learner.model.learner.num_steps
    assert value("headwater_versions_published_total") == value("headwater_snapshot_version") == bench.newest().version
    assert value("headwater_vocabulary_rows") == 11
    assert value("headwater_unpublished_records") == 0
    assert value("headwater_learner_behind_seconds") == 0
    assert value("headwater_prequential", {"figure": "events"}) == learner.model.figures()["events"]


def test_a_new_log_is_learned_though_its_offsets_begin_anew(bench_factory: BenchFactory) -> None:
    """Its samples would be dropped as duplicates until its offsets have passed those of the former log."""
    former = make_samples(30)
    later = [msgspec.structs.replace(sample, topic_id="log-2", epoch=1) for sample in make_samples(30, seed=1)]
    learner = bench_factory(SampleLog().send(former).send(later)).run()
    assert learner.metrics.samples._value.get() == 60
    assert learner.metrics.duplicates._value.get() == 0


def test_an_idle_learner_rehearses_as_long_as_it_is_told_to_and_publishes_that(bench_factory: BenchFactory) -> None:
    """A quiet hour would be lost, or the few users of a night learned by heart."""
    bench = bench_factory(SampleLog().send(make_samples(16)))
    bench.rehearse_seconds = 5.0
    learner = bench.learner()

    def stop_late() -> None:
        if learner.consumer.num_polls > 40:
            learner.stopping.set()

    learner.consumer.at_end = stop_late
    learner.run()
    assert learner.metrics.steps._value.get() == 2
    assert 3 <= learner.metrics.rehearsed._value.get() <= 5
    assert bench.newest().step == 2 + learner.metrics.rehearsed._value.get()
    assert learner.model.num_events == 16

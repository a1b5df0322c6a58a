"""What the newest published version would have answered, beside what the learner knew: the cost of staleness."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.evaluation import Histories, Interaction
from model.online import OnlineLearner
from model.recommender import Recommender
from model.sequence import NEW_ACTION, NEW_EXPOSURE, UserSequence
from model.user_features import UserFeature
from storage.errors import SnapshotError
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.batch import MicroBatch
from streams.learned_model import LearnedModel
from streams.learner_settings import LearnerSettings
from streams.staleness import Staleness, history_before
from tests.model.synthetic import SMALL, feed, learner_factory, markov_stream
from tests.streams.learner_bench import (
    LEARN,
    MODEL,
    BenchFactory,
    Killed,
    assert_same_end,
    kill_after_step,
    newest_manifest,
    the_log,
)
from tests.streams.made_samples import TOPIC, make_samples
from tests.streams.staleness_cases import sequence_of, targets_of

USER_FEATURES = {f"u{user}-{visit}": {"plan": user % 3} for user in range(20) for visit in range(9)}


def staleness_factory(every: int = 1, **options: Any) -> Staleness:
    return Staleness(SMALL, every, **options)


def slates(stream: Sequence[Interaction]) -> list[Interaction]:
    """Each event with an exposure before it in its group, whose item the next user acts on."""
    shown = [replace(event, item_id=after.item_id, actions=0) for event, after in pairwise(stream)]
    return [
        replace(event, group=number) for number, pair in enumerate(zip(shown, stream, strict=False)) for event in pair
    ]


def learned(staleness: Staleness, learner: OnlineLearner, stream: list[Interaction], histories: Histories) -> Staleness:
    """The same staleness, told of the stream in micro-batches of 32."""
    for start in range(0, len(stream), 32):
        sequences = histories.extend(stream[start : start + 32])
        staleness.count(sequences, learner.step(sequences).targets)
    return staleness


@pytest.mark.parametrize(("frozen", "with_slates"), [(True, False), (False, True)], ids=["frozen", "learning-slates"])
def test_the_same_weights_on_both_sides_hit_the_same_targets(*, frozen: bool, with_slates: bool) -> None:
    """The two would be asked different questions, and the difference be no cost of staleness."""
    stream = slates(markov_stream(320)) if with_slates else markov_stream(480)
    learner, histories = learner_factory(), Histories(user_features=USER_FEATURES)
    feed(learner, stream[:-160], histories)
    learner.frozen = frozen
    staleness = staleness_factory()
    for event in stream[-160:]:
        staleness.serve(learner.state()[0])
        learned(staleness, learner, [event], histories)
    _, learner_hit, served_hit, _, _ = staleness._window.held()[: staleness._window.count].T
    assert served_hit.tolist() == learner_hit.tolist()
    assert 0.2 < served_hit.mean() < 0.9
    figures = staleness.figures()
    assert figures["staleness_cost"] == 0
    assert figures["served_hit_rate"] == figures["learner_hit_rate"] == served_hit.mean()
    assert figures["staleness_targets"] == len(served_hit) > 60


def test_what_only_the_learner_has_learned_costs_staleness() -> None:
    """Old weights would look as good as new ones."""
    learner, histories = learner_factory(), Histories()
    stream = markov_stream(1_280, period=640)
    feed(learner, stream[:640], histories)
    staleness = staleness_factory(every=2)
    staleness.serve(learner.state()[0])
    figures = learned(staleness, learner, stream[640:], histories).figures()
    assert figures["staleness_cost"] > 0.05
    assert figures["staleness_cost"] == pytest.approx(figures["learner_hit_rate"] - figures["served_hit_rate"])
    assert figures["unseen_items_share"] == 0
    assert math.isnan(figures["unseen_items_hit_rate"])


def test_items_that_the_version_does_not_know_are_a_series_of_their_own() -> None:
    """What new items cost would not be told apart from what old weights cost."""
    learner, histories = learner_factory(), Histories()
    feed(learner, markov_stream(320), histories)
    staleness = staleness_factory()
    staleness.serve(learner.state()[0])
    old = learned(staleness, learner, markov_stream(64, seed=1), histories).figures()
    assert old["unseen_items_share"] == 0
    young = [replace(event, item_id=f"young-{event.item_id}") for event in markov_stream(640, num_items=30)]
    figures = learned(staleness, learner, young, histories).figures()
    assert figures["staleness_targets"] > 500
    share = 1 - old["staleness_targets"] / figures["staleness_targets"]
    assert figures["unseen_items_share"] == pytest.approx(share)
    assert figures["unseen_items_hit_rate"] > 0.3
    old_hits = old["served_hit_rate"] * old["staleness_targets"]
    assert figures["served_hit_rate"] == pytest.approx(old_hits / figures["staleness_targets"])


class Asked:
    """Knows every item, answers with one, and keeps what it was asked."""

    def __init__(self, answer: str = "b") -> None:
        self.answer = answer
        self.sequences: list[UserSequence] = []
        self.times: list[int] = []

    def contains(self, item_id: str) -> bool:
        return True

    def recommend(self, sequence: UserSequence, *, now_ms: int, k: int) -> list[tuple[str, float]]:
        assert k == 10
        self.sequences.append(sequence)
        self.times.append(now_ms)
        return [(self.answer, 1.0)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    stub = Asked()
    monkeypatch.setattr(Recommender, "from_state", lambda settings, arrays: stub)
    return stub


def columns_of(sequence: UserSequence) -> list[npt.NDArray[Any]]:
    return [sequence.ts_ms, sequence.actions, sequence.values, sequence.groups, sequence.new, sequence.order]


def test_the_version_sees_nothing_of_the_event_its_group_or_what_comes_later(asked: Asked) -> None:
    """It would be told the answer, and be as good as the learner whatever its age."""
    known = [UserFeature(0, 0, "plan", "free"), UserFeature(1_500, 2, "age", 30), UserFeature(2_000, 2, "plan", "paid")]
    later = [UserFeature(2_001, 4, "age", 31), UserFeature(9_000, 5, "plan", "gone")]
    whole = replace(
        sequence_of(["a", "b", "c", "d", "e"], num_new=1),
        ts_ms=np.array([0, 1_000, 2_000, 2_000, 9_000]),
        groups=np.array([1, 2, 3, 3, 4]),
        new=np.array([0, 0, 0, NEW_EXPOSURE | NEW_ACTION, 0]),
        features=[*known, *later],
    )
    other = replace(
        whole,
        item_ids=["a", "b", "x", "y", "z", "z"],
        ts_ms=np.array([0, 1_000, 2_000, 2_000, 7_000, 8_000]),
        actions=np.array([1, 1, 0, 2, 2, 2]),
        values=np.array([np.nan, np.nan, 1, 2, 3, 4], np.float32),
        groups=np.array([1, 2, 3, 3, 4, 5]),
        new=np.array([0, 0, 1, 3, 3, 3]),
        order=np.arange(6),
        features=known,
    )
    staleness = staleness_factory()
    staleness.serve({})
    staleness.count([whole], targets_of([1.0]))
    staleness.count([other], targets_of([1.0, 1.0, 1.0]))
    seen, of_other = asked.sequences[:2]
    for sequence in (seen, of_other):
        assert sequence.item_ids == ["a", "b"]
        assert list(sequence.features) == known
        for column, expected in zip(columns_of(sequence)[:4], columns_of(whole)[:4], strict=True):
            np.testing.assert_array_equal(column, expected[:2])
        assert {len(column) for column in columns_of(sequence)} == {2}
    assert asked.times[:2] == [2_000, 2_000]
    assert (asked.sequences[2].item_ids, asked.times[2]) == (["a", "b", "x", "y"], 7_000)
    assert not any(sequence.new.any() for sequence in asked.sequences)
    assert whole.new[3]


def test_a_first_event_is_asked_about_without_history() -> None:
    """The first group of a sequence is before nothing."""
    before = history_before(sequence_of(["a", "b"], num_new=2), 0)
    assert before.item_ids == []
    assert all(len(column) == 0 for column in columns_of(before))


def test_targets_are_matched_with_their_events_across_users(asked: Asked) -> None:
    """Another user's history would be asked about, or another rank be held against it."""
    first = replace(sequence_of(["a", "b"], num_new=2), order=np.array([0, 3]))
    second = replace(sequence_of(["b", "a"], num_new=2, user_id="bob"), order=np.array([1, 2]))
    staleness = staleness_factory()
    staleness.serve({})
    staleness.count([first, second], targets_of([1.0, 11.0, 10.0, 10.5]))
    assert [sequence.user_id for sequence in asked.sequences] == ["ada", "bob", "bob", "ada"]
    # Items in the order of the stream are a, b, a, b; the version answers b.
    assert staleness._window.held()[:, 1:3].tolist()[:4] == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_every_so_many_th_event_of_the_stream_is_asked_about_and_no_repeat(asked: Asked) -> None:
    """The learner would be slowed by more questions than were set, or repeats count in the main series."""
    sequence = sequence_of(["b", "c", "b", "d", "e", "f", "b"], num_new=7)
    staleness = staleness_factory(every=2)
    staleness.serve({})
    staleness.count([sequence], targets_of([1.0] * 7, repeat=[number in (2, 6) for number in range(7)]))
    assert [len(sequence.item_ids) for sequence in asked.sequences] == [0, 4]
    assert staleness.figures()["staleness_targets"] == 2


def test_ranks_that_are_infinite_or_no_number_are_misses(asked: Asked) -> None:
    """A learner with spoiled weights would have no misses, and the served version look bad beside it."""
    staleness = staleness_factory()
    staleness.serve({})
    staleness.count([sequence_of(["b", "b", "b"], num_new=3)], targets_of([math.nan, math.inf, 3.0]))
    assert staleness.figures()["learner_hit_rate"] == pytest.approx(1 / 3)
    assert staleness.figures()["staleness_cost"] == pytest.approx(-2 / 3)


def test_a_window_slides_while_the_totals_go_on(asked: Asked) -> None:
    """What is true now would drown in what was true last month."""
    staleness = staleness_factory(window=4)
    assert math.isnan(staleness.figures()["window_staleness_cost"])
    staleness.serve({})
    for item_id in ("b", "c"):
        staleness.count([sequence_of([item_id] * 4, num_new=4)], targets_of([1.0] * 4))
    figures = staleness.figures()
    assert (figures["window_staleness_targets"], figures["staleness_targets"]) == (4, 8)
    assert (figures["window_staleness_cost"], figures["staleness_cost"]) == (1, 0.5)


def model_of(folder: Path, every: int) -> LearnedModel:
    store = SnapshotStore(SnapshotSettings(url=str(folder)))
    opened = LearnedModel.open(store, MODEL, LEARN, {TOPIC: "t1"})
    opened.watch_staleness(every)
    return opened


def learn(model: LearnedModel, start: int, end: int) -> dict[str, float]:
    """Learn made samples one by one; the figures after."""
    for sample in make_samples(end, num_items=200)[start:]:
        batch = MicroBatch(model.num_events)
        batch.add(sample)
        model.learn(batch)
    return model.figures()


def test_nothing_is_counted_before_the_first_version_or_of_one_that_was_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that nobody is answered from would be measured."""
    model = model_of(tmp_path, every=1)
    assert learn(model, 0, 10)["staleness_targets"] == 0
    assert math.isnan(model.figures()["staleness_cost"])

    def fail(store: SnapshotStore, *arguments: Any) -> None:
        raise SnapshotError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(SnapshotStore, "publish", fail)
        with pytest.raises(SnapshotError):
            model.cut({}, {})()
    assert learn(model, 10, 20)["staleness_targets"] == 0
    write = model.cut({}, {})
    assert learn(model, 20, 30)["staleness_targets"] == 0
    write()
    assert learn(model, 30, 40)["staleness_targets"] == 10


def test_figures_begin_anew_with_the_process_and_the_version_that_it_opened_is_the_served_one(tmp_path: Path) -> None:
    """A restart would measure nothing until it has published, or take over what was measured of other versions."""
    model = model_of(tmp_path, every=1)
    learn(model, 0, 10)
    model.cut({}, {})()
    assert learn(model, 10, 20)["staleness_targets"] == 10
    again = model_of(tmp_path, every=1)
    assert again.figures()["staleness_targets"] == 0
    assert learn(again, 10, 20)["staleness_targets"] == 10
    assert again.figures()["staleness_cost"] == model.figures()["staleness_cost"]


def test_it_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner with a vocabulary of millions has no room for a second copy."""
    learned_before = model_of(tmp_path, every=0)
    learn(learned_before, 0, 10)
    learned_before.cut({}, {})()
    built: list[Any] = []
    monkeypatch.setattr(Recommender, "from_state", lambda *arguments: built.append(arguments))
    model = model_of(tmp_path, every=0)
    assert "staleness_cost" not in learn(model, 10, 20)
    model.cut({}, {})()
    assert not built
    with pytest.raises(ValueError, match="staleness_every must be >= 0, got -1"):
        LearnerSettings(staleness_every=-1)


def test_it_leaves_no_trace_in_what_is_learned(bench_factory: BenchFactory, tmp_path: Path) -> None:
    """A learner that died would end as another one, because it asked other versions than it would have."""
    off, bench = bench_factory(the_log()), bench_factory(the_log())
    off.staleness_every, bench.staleness_every = 0, 1
    off.ranks, bench.ranks = tmp_path / "off", tmp_path / "on"
    killed = bench.learner()
    kill_after_step(killed, 9)
    with pytest.raises(Killed):
        killed.run()
    assert killed.model.figures()["staleness_targets"] > 0
    for learner in (killed, bench.run(), off.run()):
        assert learner.model.rank_log is not None
        learner.model.rank_log.close()
    assert_same_end(bench.store, off.store)
    assert bench.ranks.read_bytes() == off.ranks.read_bytes()


def test_the_figures_are_in_the_manifest_and_the_metrics(bench_factory: BenchFactory) -> None:
    """Nobody would see them."""
    bench = bench_factory(the_log())
    learner = bench.run()
    first = bench.store.manifest(learner.model.run_id, 1).metrics
    assert first["staleness_targets"] == 0
    assert "staleness_cost" not in first
    newest, figures = newest_manifest(bench.store).metrics, learner.model.figures()
    assert figures["staleness_targets"] > 0
    for name in ("staleness_targets", "served_hit_rate", "window_staleness_cost"):
        told = learner.metrics.registry.get_sample_value("headwater_prequential", {"figure": name})
        assert told == newest[name] == figures[name]

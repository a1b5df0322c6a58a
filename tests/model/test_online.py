import dataclasses

import numpy as np
import pytest
import torch

from model.evaluation import Histories, Interaction
from model.online import OnlineLearner, pick_device
from model.recommender import Recommender
from model.sequence import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, UserSequence
from model.settings import LearnSettings
from tests.model.synthetic import LEARN, SMALL, feed, learner_factory, markov_stream


def sequence_factory(user_id: str = "u", count: int = 3, new: int = NEW_EXPOSURE | NEW_ACTION) -> UserSequence:
    return UserSequence(
        user_id=user_id,
        item_ids=[f"i{number}" for number in range(count)],
        ts_ms=np.arange(count) * 1_000,
        actions=np.ones(count, np.int64),
        values=np.full(count, np.nan, np.float32),
        groups=np.arange(count),
        new=np.full(count, new),
        order=np.arange(count),
    )


def assert_equal_state(one: OnlineLearner, other: OnlineLearner) -> None:
    for left, right in zip(one.state(), other.state(), strict=True):
        assert left.keys() == right.keys()
        for name in left:
            assert left[name].dtype == right[name].dtype, name
            assert left[name].tobytes() == right[name].tobytes(), name


@pytest.mark.parametrize("exact_softmax_rows", [10_000, 20])
def test_a_restored_learner_goes_on_bit_for_bit_like_one_that_never_stopped(exact_softmax_rows: int) -> None:
    """A restart would change what is learned: moments, accumulators, draws, replay, counts or the meter."""
    model = dataclasses.replace(SMALL, exact_softmax_rows=exact_softmax_rows, dropout=0.1)
    stream, histories, stopped_histories = markov_stream(256), Histories(), Histories()
    learn = dataclasses.replace(LEARN, average_steps=7)
    learner, stopped = learner_factory(model, learn), learner_factory(model, learn)
    ranks = feed(learner, stream, histories)
    first = feed(stopped, stream[:128], stopped_histories)
    restored = OnlineLearner.restore(model, learn, *stopped.state())
    second = feed(restored, stream[128:], stopped_histories)
    assert np.concatenate([first, second]).tobytes() == ranks.tobytes()
    assert_equal_state(learner, restored)


def test_a_learner_is_restored_before_its_first_step_too() -> None:
    """The first checkpoint may come before the first event."""
    fresh = learner_factory()
    assert_equal_state(OnlineLearner.restore(SMALL, LEARN, *fresh.state()), fresh)


def test_a_state_is_a_copy_that_later_steps_do_not_touch() -> None:
    """A snapshot written while the learner goes on would mix two instants."""
    learner, histories, stream = learner_factory(), Histories(), markov_stream(128)
    feed(learner, stream[:64], histories)
    state = learner.state()
    before = [{name: array.copy() for name, array in half.items()} for half in state]
    feed(learner, stream[64:], histories)
    for half, copy in zip(state, before, strict=True):
        for name in half:
            assert half[name].tobytes() == copy[name].tobytes(), name


def test_arrays_for_serving_have_the_agreed_names_types_and_shapes() -> None:
    """The server is written against them."""
    learner = learner_factory()
    learner.step([sequence_factory()])
    arrays, _ = learner.state()
    assert arrays["items.weight"].shape == (4, SMALL.dim)
    assert arrays["items.weight"].dtype == arrays["items.count"].dtype == np.float32
    assert arrays["items.count"].shape == arrays["items.live"].shape == (4,)
    assert arrays["items.id_bytes"].dtype == np.uint8
    assert arrays["items.id_ends"].tolist() == [0, 2, 4, 6]
    assert arrays["items.live"].tolist() == [0, 1, 1, 1]
    assert all(array.dtype == np.float32 for name, array in arrays.items() if name.startswith("dense."))


def test_arrays_of_other_settings_are_refused_by_name() -> None:
    """A half-loaded model would answer nonsense."""
    state = learner_factory().state()
    with pytest.raises(ValueError, match=r"dense\.features must have shape"):
        OnlineLearner.restore(dataclasses.replace(SMALL, dim=32), LEARN, *state)


def test_a_frozen_learner_scores_admits_and_counts_but_its_weights_stay() -> None:
    """The frozen twin of a run is the proof that the other one learns."""
    learner, histories, stream = learner_factory(), Histories(), markov_stream(320)
    feed(learner, stream[:64], histories)
    before, _ = learner.state()
    learner.frozen = True
    feed(learner, stream[64:], histories)
    after, _ = learner.state()
    assert learner.num_items > len(before["items.id_ends"])
    assert learner.meter.figures().main.events + learner.meter.figures().repeats.events == 320
    known = len(before["items.weight"])
    assert np.array_equal(after["items.weight"][:known], before["items.weight"])
    assert all(np.array_equal(after[name], before[name]) for name in before if name.startswith("dense."))


def test_a_loss_that_is_not_finite_skips_the_step_and_counts_it() -> None:
    """One bad batch would turn every weight into NaN."""
    learner, histories, stream = learner_factory(), Histories(), markov_stream(128)
    feed(learner, stream[:64], histories)
    kept = learner._network.features.detach().clone()
    with torch.no_grad():
        learner._network.features[0] = torch.inf
    before = learner.state()
    report = learner.step(histories.extend(stream[64:96]))
    assert report.skipped
    assert not report.learned
    assert learner.num_skipped == 1
    counts = ("items.count", "items.weight", "rates.items", "rates.total")
    for name, array in learner.state()[0].items():
        if array.shape == before[0][name].shape and name not in counts:
            assert array.tobytes() == before[0][name].tobytes(), name
    with torch.no_grad():
        learner._network.features.copy_(kept)
    assert learner.step(histories.extend(stream[96:])).learned


def test_a_sampled_step_changes_only_the_rows_it_touched() -> None:
    """Rows that nothing was learned about would drift, and no delta could tell what changed."""
    model = dataclasses.replace(SMALL, exact_softmax_rows=0, num_negatives=4)
    learner = learner_factory(model, dataclasses.replace(LEARN, replay_events=0))
    learner.step([sequence_factory("v", 60)])
    before = learner.state()[0]["items.weight"]
    learner.step([sequence_factory("w", 3)])
    changed = (learner.state()[0]["items.weight"] != before).any(1)
    assert changed[1:4].all()
    assert 3 <= changed.sum() <= 7


def test_what_corrects_a_sampled_softmax_is_of_the_last_targets_and_young_items_are_no_uniform_negatives() -> None:
    """A new item would be pushed away from everybody for not having been taken yet."""
    model = dataclasses.replace(SMALL, exact_softmax_rows=0, num_negatives=400, transition_memory=False)
    learner = learner_factory(model, dataclasses.replace(LEARN, replay_events=0))
    for number in range(110):
        learner.step([sequence_factory(f"u{number}", 1)])
    shown = sequence_factory("shown", 2, NEW_EXPOSURE)
    shown = dataclasses.replace(shown, item_ids=["old", "i0"], actions=np.zeros(2, np.int64))
    learner.step([shown])
    weights = learner.state()[0]["items.weight"].copy()
    learner.step([sequence_factory("last", 1)])
    assert np.array_equal(learner.state()[0]["items.weight"][2], weights[2])


def test_few_replayed_targets_weigh_no_more_than_new_ones() -> None:
    """One user's past would count as much as all that is new."""
    losses = []
    for replay_events in (0, 1):
        learner = learner_factory(learn=dataclasses.replace(LEARN, replay_events=replay_events))
        learner.step([sequence_factory("first", 1)])
        losses.append(learner.step([sequence_factory("many", 20)]).retrieval_loss)
    assert 0 < losses[1] - losses[0] < np.log(21) * 1.5 / 20


def test_a_burst_longer_than_the_window_is_scored_and_learned_whole() -> None:
    """Events beyond the window would be lost without a word."""
    learner = learner_factory()
    report = learner.step([sequence_factory(count=100)])
    assert report.num_events == 100
    assert report.targets.numbers.tolist() == list(range(100))
    assert report.learned


def test_a_further_action_is_learned_by_the_ranking_head_alone() -> None:
    """An event would be a retrieval target twice."""
    learner = learner_factory()
    learner.step([sequence_factory()])
    before = learner.meter.figures()
    report = learner.step([sequence_factory(new=NEW_FURTHER_ACTION)])
    assert report.learned
    assert len(report.targets.numbers) == 0
    after = learner.meter.figures()
    assert (after.main.events, after.repeats.events) == (before.main.events, before.repeats.events) == (3, 0)
    assert after.ranked_events == before.ranked_events == 3


@pytest.mark.parametrize("exact_softmax_rows", [10_000, 10])
def test_items_of_actions_without_weight_are_not_recommended_for_them(exact_softmax_rows: int) -> None:
    """Half of the items are only ever disliked: what is learned from must not lead to them."""
    settings = dataclasses.replace(SMALL, exact_softmax_rows=exact_softmax_rows)
    disliked = {}
    for weights in ((), (1.0, 0.0, 1.0)):
        learner = learner_factory(settings, dataclasses.replace(LEARN, target_weights=weights))
        feed(learner, markov_stream(960), Histories())
        recommender = Recommender.from_state(settings, learner.state()[0])
        users = Histories().extend([Interaction(f"new{item}", f"i{item}", 960_000, 1) for item in range(0, 60, 2)])
        answers = [recommender.recommend(user, now_ms=961_000, k=10) for user in users]
        disliked[weights] = sum(int(item_id[1:]) % 2 for answer in answers for item_id, _ in answer)
    assert disliked[1.0, 0.0, 1.0] < disliked[()] / 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [((1.0,), "one for each of"), ((1.0, -1.0, 0.0), "numbers >= 0"), ((0.0, 0.0, 0.0), "not all 0")],
)
def test_weights_that_fit_no_action_are_refused(weights: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_factory(SMALL, dataclasses.replace(LEARN, target_weights=weights))


def test_nothing_new_is_no_step() -> None:
    """An empty batch must not move a weight or divide by nothing."""
    learner = learner_factory()
    before = learner_factory()
    for sequences in ([], [sequence_factory(new=0)]):
        report = learner.step(sequences)
        assert (report.num_events, report.learned, report.skipped) == (0, False, False)
    assert learner.num_steps == 0
    assert learner.state()[0]["dense.features"].tobytes() == before.state()[0]["dense.features"].tobytes()


def test_a_user_that_comes_twice_and_ragged_columns_are_refused() -> None:
    """Two rows of one user would be learned as if neither knew of the other."""
    with pytest.raises(ValueError, match="a user must come once in a batch, got 'u' twice"):
        learner_factory().step([sequence_factory(), sequence_factory()])
    ragged = dataclasses.replace(sequence_factory(), groups=np.arange(2))
    with pytest.raises(ValueError, match=r"columns of a sequence must have one length, got \[2, 3\]"):
        learner_factory().step([ragged])


def test_state_does_not_grow_with_the_number_of_events() -> None:
    """A learner that never stops would run out of memory."""
    learner, histories = learner_factory(learn=LearnSettings(batch_events=32)), Histories(64)
    stream = markov_stream(960)
    feed(learner, stream[:480], histories)
    half = sum(array.nbytes for part in learner.state() for array in part.values())
    feed(learner, stream[480:], histories)
    assert sum(array.nbytes for part in learner.state() for array in part.values()) <= 1.2 * half


def test_a_device_that_is_not_there_is_refused() -> None:
    """Hours on the CPU instead of a GPU would be a silent fallback."""
    if torch.cuda.is_available():
        assert pick_device("auto").type == "cuda"
    else:
        assert pick_device("auto").type == "cpu"
        with pytest.raises(ValueError, match="device must be auto or cpu where torch finds no CUDA device"):
            pick_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_learner_learns_as_well_as_a_cpu_one_and_its_state_moves_between_them() -> None:
    """bf16 or a tensor left on the CPU would break the other device."""
    stream = markov_stream(3_200)
    rates = []
    for device in ("cpu", "cuda"):
        learn = dataclasses.replace(LEARN, device=device)
        learner, histories = OnlineLearner(SMALL, learn), Histories()
        feed(learner, stream[:1_600], histories)
        other = dataclasses.replace(LEARN, device="cpu" if device == "cuda" else "cuda")
        model, trainer = learner.state()
        trainer = {name: array for name, array in trainer.items() if name != "generator.dropout"}
        trainer["generator.dropout"] = OnlineLearner(SMALL, other).state()[1]["generator.dropout"]
        moved = OnlineLearner.restore(SMALL, other, model, trainer)
        rates.append(np.mean(feed(moved, stream[1_600:], histories) <= 10))
    assert abs(rates[0] - rates[1]) < 0.1

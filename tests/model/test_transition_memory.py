"""What followed each item: by whom it is read, how it is told, that it forgets and is restored."""

import dataclasses

import numpy as np
import pytest

from model.evaluation import Histories, Interaction
from model.online import OnlineLearner
from model.settings import ModelSettings
from model.transition_memory import NUM_SUCCESSORS, TransitionMemory
from tests.model.synthetic import LEARN, SMALL, feed, learner_factory, markov_stream


def strengths(memory: TransitionMemory, recent: list[int]) -> dict[int, float]:
    """By row, summed."""
    found: dict[int, float] = {}
    for row, strength in zip(*memory.read(np.array(recent, np.int64)), strict=True):
        found[int(row)] = found.get(int(row), 0.0) + float(strength)
    return found


def test_a_transition_is_known_after_one_sighting_and_by_recency() -> None:
    """An item that was acted on second to last leads less than the last one."""
    memory = TransitionMemory()
    assert strengths(memory, [3, 4]) == {}
    memory.note(np.array([3, 4]), 9)
    assert strengths(memory, [3]) == {9: 1.0}
    assert strengths(memory, [4]) == {9: 0.5}
    assert strengths(memory, [3, 4]) == {9: 1.25}
    assert strengths(memory, [-1, 3]) == {9: 0.5}
    assert strengths(memory, []) == {}
    memory.note(np.zeros(0, np.int64), 9)
    memory.note(np.array([2_000]), 5)
    assert strengths(memory, [2_000]) == {5: 1.0}


def test_what_no_longer_follows_gives_way_to_what_does() -> None:
    """A memory that is full of the past would never learn the present."""
    memory = TransitionMemory()
    for _ in range(50):
        memory.note(np.array([0]), 7)
    for row in range(100, 100 + 3 * NUM_SUCCESSORS):
        memory.note(np.array([0]), row)
    found = strengths(memory, [0])
    assert len(found) == NUM_SUCCESSORS
    assert max(found, key=lambda row: found[row]) == 7
    assert 100 + 3 * NUM_SUCCESSORS - 1 in found
    for _ in range(400):
        memory.note(np.array([0]), 500)
        memory.note(np.array([0]), 501)
    found = strengths(memory, [0])
    assert found[500] > 10 * found.get(7, 0.0)


def test_it_equals_plain_decayed_counts_while_there_is_room() -> None:
    """Slots that are swapped, or a decay that misses some, would pass unnoticed for long."""
    rng, memory = np.random.default_rng(0), TransitionMemory()
    plain: dict[tuple[int, int], float] = {}
    for _ in range(500):
        recent = rng.choice(6, int(rng.integers(0, 6)), replace=False)
        row = int(rng.integers(NUM_SUCCESSORS))
        memory.note(recent, row)
        for place, former in enumerate(recent.tolist()):
            for pair in plain:
                if pair[0] == former:
                    plain[pair] *= 0.99
            plain[former, row] = plain.get((former, row), 0.0) + 1 / (place + 1)
    for former in range(6):
        expected = {row: count for (one, row), count in plain.items() if one == former}
        assert strengths(memory, [former]) == pytest.approx(expected, rel=1e-4)


def test_a_restored_memory_goes_on_as_if_never_stopped() -> None:
    one, other = TransitionMemory(), TransitionMemory()
    rng = np.random.default_rng(0)
    for _ in range(200):
        one.note(rng.choice(30, 5, replace=False), int(rng.integers(30)))
    other.load(one.state(30))
    for memory in (one, other):
        memory.note(np.array([3, 1_500]), 2)
    for row in (3, 29, 1_500):
        assert strengths(one, [row]) == strengths(other, [row])


def test_a_state_that_is_none_is_refused_by_name() -> None:
    """A damaged version would fail at the first request for it."""
    memory = TransitionMemory()
    good = memory.state(4)
    memory.load(good)
    bad: list[dict[str, np.ndarray]] = [
        {},
        good | {"memory.counts": good["memory.counts"][:2]},
        {name: array[:, :3] for name, array in good.items()},
        good | {"memory.successors": np.full_like(good["memory.successors"], 4)},
    ]
    for arrays in bad:
        with pytest.raises(ValueError, match=r"memory\.successors"):
            memory.load(arrays)


def test_an_empty_memory_answers_those_who_know_more() -> None:
    """A model that has no item yet would fail for every user who has events."""
    memory = TransitionMemory()
    memory.load(memory.state(0))
    assert strengths(memory, [-1, 3]) == {}


def test_rows_are_forgotten_where_one_beyond_the_table_followed_another() -> None:
    """A learner with a full table would end as soon as it takes rows back."""
    memory = TransitionMemory()
    memory.note(np.array([3]), 5_000)
    memory.note(np.array([4]), 6_000)
    memory.clear(np.array([7, 5_000]))
    assert strengths(memory, [3]) == {}
    assert list(strengths(memory, [4])) == [6_000]


@pytest.mark.parametrize("exact_softmax_rows", [10_000, 10])
def test_what_is_counted_adds_to_what_is_learned(exact_softmax_rows: int) -> None:
    """In this stream two items follow each, anew after a while: counts know it before the weights do."""
    stream = markov_stream(2_000, period=1_000)
    hits = {}
    for counted in (True, False):
        settings = dataclasses.replace(
            SMALL, transition_memory=counted, popularity_prior=counted, exact_softmax_rows=exact_softmax_rows
        )
        learner = learner_factory(settings)
        hits[counted] = (feed(learner, stream, Histories())[500:] <= 10).mean()
        gates = learner.state()[0]["dense.retrieval.gates"]
        assert gates.shape == (2 if counted else 0,)
        assert not counted or gates[0] > 0.5
    assert hits[True] > hits[False] + 0.05


def test_a_drift_is_followed_at_once() -> None:
    """Where one user goes another way than all before, the item is nearer for the next, without a gradient step."""
    learner, histories = learner_factory(dataclasses.replace(SMALL, popularity_prior=False)), Histories()
    feed(learner, markov_stream(640), histories)
    learner.frozen = True
    ranks = []
    for number in range(20):
        pair = [Interaction(f"a{number}", item, 700_000 + number, 1) for item in ("i1", "i58")]
        reports = [learner.step(histories.extend([event])) for event in pair]
        ranks.append(reports[1].targets.ranks[0])
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[1] < ranks[0] - 3
    assert ranks[-1] < ranks[0] * 2 / 3


def restored(settings: ModelSettings) -> tuple[OnlineLearner, OnlineLearner]:
    learner = learner_factory(settings)
    feed(learner, markov_stream(160), Histories())
    return learner, OnlineLearner.restore(settings, LEARN, *learner.state())


@pytest.mark.parametrize("switches", [(True, False), (False, True), (False, False)], ids=str)
def test_each_kind_of_count_can_be_left_out(switches: tuple[bool, bool]) -> None:
    """A run without it is what it is held against."""
    memory, prior = switches
    settings = dataclasses.replace(SMALL, transition_memory=memory, popularity_prior=prior)
    one, other = restored(settings)
    batch = [Interaction(f"new{number}", f"i{number}", 200_000, 1) for number in range(8)]
    ranks = [learner.step(Histories().extend(batch)).targets.ranks.tobytes() for learner in (one, other)]
    assert ranks[0] == ranks[1]
    assert one.state()[0]["dense.retrieval.gates"].shape == (memory + prior,)

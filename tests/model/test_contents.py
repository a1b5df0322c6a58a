"""What is said of items beside events."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.contents import MAX_WORDS, NO_WORD, Contents, Description
from model.evaluation import Histories, Interaction
from model.item_keys import item_keys
from model.online import OnlineLearner
from model.recommender import Recommender
from tests.model.synthetic import LEARN, SMALL, feed, learner_factory, markov_stream

ID = st.sampled_from([f"i{number}" for number in range(12)])
TOLD = st.builds(
    Description, item_id=ID, words=st.tuples(st.sampled_from("abc")), available=st.booleans(), forgotten=st.booleans()
)


@given(st.lists(st.one_of(TOLD, ID), max_size=40))
@settings(deadline=None)
def test_contents_are_those_of_a_plain_dict(news: list[Description | str]) -> None:
    """An item would be described, hidden or forgotten as another is, or as it was before."""
    contents, plain = Contents(8, 100), dict[str, Description]()
    words = {word: row_of(word, 100) for word in "abc"}
    for each in news:
        if isinstance(each, str):
            contents.remove(each)
            plain.pop(each, None)
        else:
            contents.describe(each)
            if each.item_id in plain or len(plain) < 8:
                plain[each.item_id] = each
        restored = Contents(8, 100)
        restored.load(contents.state())
        for its in (contents, restored):
            ids = [f"i{number}" for number in range(12)]
            assert len(its) == len(plain)
            expected = [words[plain[i].words[0]] if i in plain else NO_WORD for i in ids]
            assert its.words(item_keys(ids))[:, 0].tolist() == expected
            keys = [0 if i in plain and plain[i].forgotten else key for i, key in zip(ids, item_keys(ids), strict=True)]
            assert its.known_keys(item_keys(ids)).tolist() == keys
            hidden = item_keys([i for i, told in plain.items() if not told.available])
            assert its.hidden().tolist() == sorted(hidden.tolist())
        for name, array in contents.state().items():
            assert array.tobytes() == restored.state()[name].tobytes()


def row_of(word: str, num_rows: int) -> int:
    contents = Contents(1, num_rows)
    contents.describe(Description(item_id="i", words=(word,)))
    return int(contents.words(item_keys(["i"]))[0, 0])


def test_words_are_the_first_distinct_ones() -> None:
    """A long text would push aside what is most telling, or one word count for all."""
    contents = Contents(1, 1_000_000)
    contents.describe(Description(item_id="i", words=("a", "a", *map(str, range(40)))))
    rows = contents.words(item_keys(["i"]))[0]
    assert len(set(rows.tolist())) == len(rows) == MAX_WORDS
    assert rows[0] == row_of("a", 1_000_000)
    assert (rows > 0).all()


def test_more_items_than_there_is_room_for_are_refused() -> None:
    """A catalogue of any size would take any memory."""
    contents = Contents(2, 100)
    kept = [contents.describe(Description(item_id=f"i{number}")) for number in (0, 1, 2, 3, 1, 4)]
    assert kept == [True, True, False, False, True, False]
    assert len(contents) == 2
    with pytest.raises(ValueError, match="max_described must be >= 2"):
        Contents(1, 100).load(contents.state())


def genre_stream(num: int, seed: int = 0) -> list[Interaction]:
    """Users who like one of two genres each; an item comes twice or so, then never again."""
    rng, stream = np.random.default_rng(seed), []
    for event in range(num):
        user = int(rng.integers(20))
        item = 40 * (event // 80) + 2 * int(rng.integers(20)) + user % 2
        stream.append(Interaction(f"u{user}", f"i{item}", event * 1_000, 1))
    return stream


def test_a_newborn_item_is_ranked_by_what_its_words_are_worth() -> None:
    """It would be anybody's until enough users had come to it."""
    stream, rates = genre_stream(2_000), {}
    plain = dataclasses.replace(SMALL, transition_memory=False, popularity_prior=False)
    for told in (True, False):
        learner = learner_factory(plain, dataclasses.replace(LEARN, max_items=1_000))
        for number in range(1_000 * told):
            words = f"genre {number % 2}", f"era {number // 40}"
            learner.describe(Description(item_id=f"i{number}", words=words))
        ranks = feed(learner, stream, Histories())[1_000:]
        rates[told] = float(np.mean(ranks[np.isfinite(ranks)] <= 10))
    assert rates[True] > 1.3 * rates[False]


def test_an_item_that_nobody_has_met_is_ranked_by_its_words() -> None:
    """`/rank` would give each new item of a caller's list the same odds."""
    learner, histories = learner_factory(), Histories()
    for number in range(60):
        learner.describe(Description(item_id=f"i{number}", words=(f"half {number % 2}",)))
    learner.describe(Description(item_id="new-0", words=("half 0",)))
    learner.describe(Description(item_id="new-1", words=("half 1",)))
    stream = markov_stream(2_400)
    feed(learner, stream, histories)
    recommender = Recommender.from_state(SMALL, learner.state()[0])
    (sequence,) = histories.extend([stream[-1]])
    odds = recommender.rank(sequence, now_ms=3_000_000, item_ids=["new-0", "new-1"])
    assert odds[0]["like"] > odds[1]["like"] + 0.2


def test_of_a_forgotten_item_nothing_is_learned_wherever_it_stands() -> None:
    """Histories hold it for a long time; what they say of it would go on being learned, by the rows that ids share."""
    stream = markov_stream(320)
    renamed = [replaced(event, "i7", "other") for event in stream]
    arrays = []
    for name, events in (("i7", stream), ("other", renamed)):
        learner, histories = learner_factory(), Histories()
        feed(learner, events[:160], histories)
        learner.describe(Description(item_id=name, available=False, forgotten=True))
        assert learner.num_items == len({event.item_id for event in events[:160]}) - 1
        feed(learner, events[160:], histories)
        arrays.append(learner.state()[0])
        recommender = Recommender.from_state(SMALL, arrays[-1])
        assert not recommender.contains(name)
    # The ids differ in their hashes, and in nothing else: no hash of either was learned from.
    assert np.array_equal(arrays[0]["dense.shared_items"], arrays[1]["dense.shared_items"])
    assert np.array_equal(arrays[0]["items.weight"], arrays[1]["items.weight"])


def replaced(event: Interaction, item_id: str, by: str) -> Interaction:
    return dataclasses.replace(event, item_id=by) if event.item_id == item_id else event


def test_a_restored_learner_goes_on_bit_for_bit_with_what_is_said() -> None:
    """A version would not hold what its weights were learned with."""
    stream, histories, others = markov_stream(320), Histories(), Histories()
    learner, stopped = learner_factory(), learner_factory()
    for each in (learner, stopped):
        for number in range(30):
            each.describe(Description(item_id=f"i{number}", words=(f"w{number % 4}",), available=number != 7))
    ranks = feed(learner, stream, histories)
    feed(stopped, stream[:160], others)
    restored = OnlineLearner.restore(SMALL, LEARN, *stopped.state())
    assert feed(restored, stream[160:], others).tobytes() == ranks[len(ranks) // 2 :].tobytes()


def test_a_hidden_item_is_no_candidate_but_as_the_target() -> None:
    """It would take a place of the ten though serving leaves it out, or an action on it would count as a miss."""
    stream = markov_stream(640)
    learner, hiding = learner_factory(), learner_factory()
    for number in range(0, 60, 2):
        hiding.describe(Description(item_id=f"i{number}", available=False))
    ranks, others = feed(learner, stream, Histories()), feed(hiding, stream, Histories())
    assert np.isinf(ranks).tolist() == np.isinf(others).tolist()
    scored = np.isfinite(ranks)
    assert np.mean(others[scored]) < 0.7 * np.mean(ranks[scored])
    assert others.max(where=scored, initial=0) <= 31
    assert hiding.num_skipped == 0

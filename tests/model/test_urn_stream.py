import dataclasses
from typing import Any

import numpy as np
import pytest

from model.urn_stream import UrnRecords, UrnSettings, UrnStream

SETTINGS = UrnSettings(num_records=2_000, num_ids=400, num_categories=20, record_length=64)


def category_of_ids(stream: UrnStream) -> np.ndarray:
    """Category of each id from 1, from the table of how many of each category are there."""
    categories_V: np.ndarray = np.diff(stream._sizes_VK, axis=0).argmax(1)
    return categories_V


def test_ids_come_evenly_over_the_stream_and_none_before_its_time() -> None:
    """A vocabulary that stands still is another experiment."""
    stream = UrnStream(SETTINGS, 0)
    parts = [stream.part(number) for number in (0, 10, 19)]
    assert [int(part.num_there_R[0]) for part in parts] == [160, 280, 388]
    for part in parts:
        assert (part.items_RL >= 1).all()
        assert (part.items_RL <= part.num_there_R[:, None]).all()
    assert np.unique(parts[2].items_RL).size > 380


def test_a_record_keeps_to_its_categories_and_draws_their_ids_evenly() -> None:
    """The oracle reckons with both."""
    stream = UrnStream(SETTINGS, 0)
    part = stream.part(19)
    categories_RL = category_of_ids(stream)[part.items_RL - 1]
    numbers = [len(set(record)) for record in categories_RL.tolist()]
    assert (min(numbers), max(numbers)) == (1, 5)
    alone = categories_RL[np.array(numbers) == 1]
    items = part.items_RL[np.array(numbers) == 1]
    category = alone[0, 0]
    counts = np.unique(items[alone == category], return_counts=True)[1]
    assert counts.max() < 4 * counts.min() + 20


def test_shares_are_the_urn_s_formula() -> None:
    """n_c counts what came before, not after."""
    stream = UrnStream(SETTINGS, 0)
    prior_RC = np.array([[0.2, 0.8, 0.0, 0.0, 0.0]])
    chosen_RL, shares_RLC = stream._categories(prior_RC, np.random.default_rng(5))
    alpha = np.random.default_rng(5).uniform(1, 500)
    for place in range(SETTINGS.record_length):
        counts_C = np.bincount(chosen_RL[0, :place], minlength=5)
        np.testing.assert_allclose(shares_RLC[0, place], (alpha * prior_RC[0] + counts_C) / (alpha + place))
    assert shares_RLC.sum(-1) == pytest.approx(1.0)


def test_the_oracle_hits_as_often_as_its_own_guesses_do() -> None:
    """All percents are percents of it."""
    stream = UrnStream(SETTINGS, 0)
    part = stream.part(19)
    category_V = category_of_ids(stream)
    # Guess by the very shares: an id's score is its category's share over its size, found through the ids drawn.
    hits = []
    for record in range(len(part.items_RL)):
        each_LC = part.shares_RLC[record] / part.sizes_RC[record]
        owned = [set(part.items_RL[record][category_V[part.items_RL[record] - 1] == c].tolist()) for c in range(20)]
        assert sum(bool(ids) for ids in owned) <= 5
        hits.append(np.minimum(each_LC.max(1) * 10, 1).mean())
    # With 20 ids a category or so, ten guesses all go to the likeliest one.
    assert part.oracle_hit_rate(10) == pytest.approx(float(np.mean(hits)), rel=0.05)


def test_an_oracle_with_a_guess_for_every_id_is_always_right() -> None:
    """More guesses than ids would count some twice."""
    part = UrnStream(SETTINGS, 0).part(3)
    assert part.oracle_hit_rate(400) == pytest.approx(1.0)
    one = UrnRecords(np.ones((1, 2), np.int64), np.array([2]), np.array([[[1.0], [1.0]]]), np.array([[4]]))
    assert one.oracle_hit_rate(1) == 0.25


def test_parts_follow_from_seed_and_number() -> None:
    """A run that goes on in the middle must meet the stream that it left."""
    first, again, other = (UrnStream(SETTINGS, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.part(7).items_RL, again.part(7).items_RL)
    assert not np.array_equal(first.part(7).items_RL, first.part(8).items_RL)
    assert not np.array_equal(first.part(7).items_RL, other.part(7).items_RL)


@pytest.mark.parametrize(
    ("name", "value"),
    [("record_length", 1), ("num_categories", 4), ("first_share", 0.0), ("num_ids", 240), ("num_records", 2_001)],
)
def test_sizes_that_cannot_be_are_refused(name: str, value: Any) -> None:
    """A stream without ids for a category divides by zero in its middle."""
    with pytest.raises(ValueError, match="must be"):
        dataclasses.replace(UrnSettings(), **{name: value})

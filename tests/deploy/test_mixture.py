"""Answers while versions change, each held against what its version has to answer."""

import pytest

from tests.benchmarks.mixture import shop
from tests.benchmarks.versioned_shop import Oracle


@pytest.mark.slow
def test_no_answer_fails_and_none_is_of_two_versions_while_versions_change() -> None:
    """Users would get items by the names, or the scores, of another version, and nobody could tell afterwards."""
    with shop(300, 0.3) as running:
        found = running.mixture(5, 30)
    assert (found.num_failed, found.num_mixed, found.num_alike) == (0, 0, 0)
    assert found.num_answers == 150
    assert found.num_versions >= 3


def test_what_is_held_against_answers_tells_versions_apart() -> None:
    """A proof that any answer passes proves nothing."""
    oracle = Oracle(60)
    own = oracle._answer(101, 3)
    assert oracle.agrees(101, 3, own)
    assert not any(oracle.agrees(version, 3, own) for version in (99, 100, 102, 103, 121))
    name, score = own[0]
    assert not oracle.agrees(101, 3, [(name, score + 0.001), *own[1:]])
    assert not oracle.agrees(101, 3, [("i1-v1", score), *own[1:]])

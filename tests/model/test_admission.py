import numpy as np
import pytest

from model.admission import Admission, Probabilistic, Seen, make_admission
from model.admission_names import AdmissionName
from model.count_min import CountMin
from model.item_keys import item_keys

KEYS = item_keys([f"i{number}" for number in range(1_000)])


def sightings_until_admitted(admission: Admission, most: int = 60) -> np.ndarray:
    """With which of its sightings each key is admitted."""
    first = np.zeros(len(KEYS), np.int64)
    for turn in range(1, most + 1):
        waiting = np.flatnonzero(first == 0)
        admitted = admission.admit(KEYS[waiting], turn * len(KEYS) + waiting)
        first[waiting[admitted]] = turn
    return first


def test_an_id_is_admitted_with_the_sighting_that_was_asked_for() -> None:
    """Ids seen once would fill the table."""
    assert (sightings_until_admitted(Seen(3, width=100_000), 5) == 3).mean() > 0.999


def test_of_too_many_ids_none_is_admitted_late() -> None:
    """A sketch that is too small may count too much, never too little."""
    first = sightings_until_admitted(Seen(3, width=500), 5)
    assert first.max() == 3
    assert (first < 3).any()


@pytest.mark.parametrize("sightings", [2, 10])
def test_chance_admits_95_percent_by_the_stated_number_of_sightings(sightings: int) -> None:
    """The setting would not mean what it says."""
    first = sightings_until_admitted(Probabilistic(sightings, seed=0))
    assert abs((first <= sightings).mean() - 0.95) < 0.03
    assert len(np.unique(first)) > sightings / 2


def test_chance_is_the_same_whenever_it_is_drawn_and_another_by_seed() -> None:
    """After a restart other ids would be admitted."""
    numbers = np.arange(len(KEYS))
    one = Probabilistic(2, seed=0).admit(KEYS, numbers)
    split = Probabilistic(2, seed=0)
    assert (
        np.concatenate([split.admit(KEYS[:7], numbers[:7]), split.admit(KEYS[7:], numbers[7:])]).tolist()
        == one.tolist()
    )
    assert (Probabilistic(2, seed=1).admit(KEYS, numbers) != one).any()


@pytest.mark.parametrize("name", ["always", "seen", "probabilistic"])
def test_a_policy_that_was_restored_goes_on_as_it_was(name: AdmissionName) -> None:
    """After a restart ids would have to be seen again from nothing."""
    one, other = (make_admission(name, sightings=3, until=0, max_items=2_000, seed=5) for _ in range(2))
    for turn in range(2):
        one.admit(KEYS, turn * 1_000 + np.arange(1_000))
    other.load(one.state())
    numbers = 2_000 + np.arange(1_000)
    assert one.admit(KEYS, numbers).tolist() == other.admit(KEYS, numbers).tolist()


def test_nobody_is_admitted_from_a_stated_event_on() -> None:
    """A vocabulary that is closed would go on growing, and the comparison with a living one show nothing."""
    admission = make_admission("always", sightings=2, until=700, max_items=2_000, seed=0)
    assert admission.admit(KEYS, np.arange(1_000)).tolist() == [number < 700 for number in range(1_000)]


def test_counts_are_never_too_small_and_halve_after_a_while() -> None:
    """What was seen long ago would count for ever, or an id that comes often be forgotten."""
    sketch, rng = CountMin(250), np.random.default_rng(0)
    seen = rng.integers(200, size=999)
    true = np.array([(seen[: place + 1] == key).sum() for place, key in enumerate(seen)])
    counts = sketch.see(KEYS[seen])
    assert (counts >= true).all()
    assert (counts == true).mean() > 0.5
    before = sketch.state()["admission.counts"]
    sketch.see(KEYS[:1])
    assert (sketch.state()["admission.counts"].astype(int).sum()) < before.astype(int).sum() / 2 + 4


def test_a_count_stays_at_its_highest() -> None:
    """It would begin anew from 0."""
    assert CountMin(1_000).see(np.zeros(300, np.int64)).tolist() == [*range(1, 256), *[255] * 45]

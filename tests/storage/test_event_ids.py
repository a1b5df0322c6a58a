import pytest

from storage.changes import Acted, Change, Exposed
from storage.event_ids import FIRST_WORDS, IDS_PER_WORD, EventIds
from storage.user_run import Applied
from tests.storage.plain import StoreFactory
from tests.storage.records import acted, arrived, exposed, rows_of


def clicks(start: int, end: int, user_id: str = "ada") -> list[Acted]:
    return [acted(offset, f"i{offset}", user_id=user_id, event_id=f"e{offset}") for offset in range(start, end)]


def test_an_id_that_was_added_is_always_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that forgets one lets a duplicate through."""
    monkeypatch.setattr("storage.event_ids.FIRST_WORDS", 64)
    event_ids = EventIds([])
    for start in range(0, 300, 10):
        arrivals = arrived(clicks(start, start + 10))
        event_ids.add(arrivals)
        assert event_ids.suspects(arrivals).all()
    assert all(event_ids.suspects(arrived(clicks(place, place + 1))).all() for place in range(300))


def test_nearly_no_new_id_is_suspected_until_it_is_full() -> None:
    """A suspect costs a read of the user's rows."""
    event_ids = EventIds([])
    num = IDS_PER_WORD * FIRST_WORDS
    event_ids.add(arrived(clicks(0, num)))
    assert not event_ids.is_full
    users = arrived([acted(0, user_id=f"user{each}", event_id="new") for each in range(4_000)])
    assert event_ids.suspects(users).sum() < 40
    event_ids.add(arrived(clicks(num, num + 1)))
    assert event_ids.is_full


def test_it_is_made_from_stored_rows_and_has_room_for_as_many_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that is full again at once would be made again with every chunk."""
    monkeypatch.setattr("storage.event_ids.FIRST_WORDS", 4)
    stored = arrived(clicks(0, 100))
    event_ids = EventIds([("ada", stored.entries(0, 100).to_bytes()), ("bob", rows_of(acted(0)).to_bytes())])
    assert event_ids.suspects(stored).all()
    assert not event_ids.is_full
    event_ids.add(arrived(clicks(100, 201)))
    assert event_ids.is_full


def test_an_id_twice_in_one_chunk_is_suspected_and_records_without_one_never_are() -> None:
    """Two records without an id are no duplicates of each other."""
    event_ids = EventIds([])
    none: list[Exposed | Acted] = [acted(offset, user_id="none") for offset in range(3)]
    once: list[Exposed | Acted] = [acted(3, user_id="once", event_id="e"), acted(4, user_id="other", event_id="e")]
    twice: list[Exposed | Acted] = [acted(5, user_id="twice", event_id="e"), exposed(6, user_id="twice", event_id="e")]
    assert event_ids.suspects(arrived([*none, *once, *twice])).tolist() == [False] * 5 + [True] * 2
    assert not len(event_ids.suspects(arrived([])))
    event_ids.add(arrived(none))
    assert not event_ids.suspects(arrived(none)).any()


@pytest.mark.parametrize("cut", [[(0, 5)], [(0, 1), (2, 3), (4, 5)], [(each, each) for each in range(6)]])
def test_a_duplicate_changes_nothing_however_chunks_are_cut(
    store_factory: StoreFactory, cut: list[tuple[int, int]]
) -> None:
    """Producers send again; their retry must be no second click."""
    changes: list[Change] = [
        exposed(0, "x", "y", event_id="shown"),
        acted(1, "x", event_id="click"),
        acted(2, "x", event_id="click", ts_ms=50, action=0),
        exposed(3, "z", event_id="click"),
        acted(4, "x", event_id="click", user_id="bob"),
        exposed(5, "x", "y", event_id="shown"),
    ]
    store = store_factory(sample_every=5)
    done = [store.apply(start, last, [*changes[start : last + 1]]) for start, last in cut]
    assert sum(each.duplicates for each in done) == 3
    assert sum(each.acted for each in done) == 2
    assert sum(each.exposed for each in done) == 2
    assert store.read("ada").actions.tolist() == [2, 0]
    assert len(store.read("bob")) == 1
    assert store.watermark_ms == 50


def test_ids_are_known_after_a_restart_in_fragments_and_in_blocks(
    store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filter is in memory only."""
    monkeypatch.setattr("storage.fragments.MAX_FRAGMENTS", 2)
    store = store_factory()
    for offset in range(8):
        store.apply(offset, offset, [acted(offset, f"i{offset}", event_id=f"e{offset}")])
    store.close()
    store = store_factory()
    again = [acted(8 + offset, "again", event_id=f"e{offset}") for offset in range(9)]
    assert store.apply(8, 16, [*again]) == Applied(duplicates=8, acted=1, samples=1)


def test_a_new_user_of_whom_only_duplicates_came_is_none(store_factory: StoreFactory) -> None:
    """An id of a former row says nothing of another user."""
    store = store_factory()
    store.apply(0, 1, [acted(0, event_id="e"), acted(1, event_id="e", user_id="bob")])
    assert store.num_users == 2


def test_an_id_whose_rows_a_trim_dropped_is_new_again(store_factory: StoreFactory) -> None:
    """What the sequence keeps decides, not what was ever seen: otherwise memory of ids grows for ever."""
    changes = [acted(offset, f"i{offset}", event_id=f"e{offset}") for offset in range(16)]
    store = store_factory(cap=8, sample_exposures=3)
    assert store.apply(0, 15, [*changes]).trimmed == 8
    dropped, kept = acted(16, "i0", event_id="e0", ts_ms=90), acted(17, "i9", event_id="e9", ts_ms=91)
    assert store.apply(16, 17, [dropped, kept]) == Applied(acted=1, duplicates=1, samples=1)
    assert store.read("ada").item_ids[-1] == "i0"


def test_the_filter_is_made_anew_when_it_is_full(store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that is never widened suspects everyone in the end."""
    monkeypatch.setattr("storage.event_ids.FIRST_WORDS", 4)
    store = store_factory()
    for start in range(0, 100, 10):
        store.apply(start, start + 9, [*clicks(start, start + 10)])
        assert not store._event_ids.is_full
    assert store.apply(100, 100, [acted(100, event_id="e7")]).duplicates == 1


def test_stored_rows_that_are_cut_short_are_an_error() -> None:
    """A filter that lacks ids lets duplicates through."""
    value = rows_of(*clicks(0, 3)).to_bytes()
    for cut in (2, len(value) - 20):
        with pytest.raises(ValueError, match="rows of 'ada' cannot be read"):
            EventIds([("bob", value), ("ada", value[:cut])])


def test_users_with_long_ids_have_their_duplicates_told(store_factory: StoreFactory) -> None:
    """Ids beyond what the compiled hash takes are hashed by the library."""
    store = store_factory()
    long = "u" * 250
    twice = [acted(offset, user_id=long, event_id="e") for offset in range(2)]
    assert store.apply(0, 2, [*twice, acted(2, user_id="bob", event_id="e")]).duplicates == 1
    store.close()
    again = [acted(3, user_id=long, event_id="e"), acted(4, user_id="bob", event_id="e")]
    assert store_factory().apply(3, 4, [*again]).duplicates == 2

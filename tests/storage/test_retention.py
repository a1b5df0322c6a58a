from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from storage import retention
from storage.objects import Listed
from storage.retention import ORPHAN_AGE, Facts

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def expendable(
    listed: Iterable[Listed],
    *,
    version: int,
    keep: int,
    bases: Mapping[tuple[str, int], int] | None = None,
    pinned: Collection[tuple[str, int]] = (),
    held_back: Collection[int] = (),
) -> list[str]:
    """What may go where the pointer names a version of the run a, and some versions are deltas of others."""
    found = bases or {}

    def facts_of(run_id: str, number: int) -> Facts:
        return Facts(found.get((run_id, number)), number in held_back)

    return retention.expendable(listed, run_id="a", version=version, keep=keep, facts_of=facts_of, pinned=pinned)


def version(
    run_id: str, number: int, *, age: timedelta = timedelta(), names: str = "manifest.json model.safetensors"
) -> list[Listed]:
    return [Listed(f"m/{run_id}/v{number:09d}/{name}", NOW - age) for name in names.split()]


def test_the_manifest_goes_before_its_files() -> None:
    """Files first would leave, after a crash, a manifest that promises what is gone."""
    listed = version("a", 1) + version("a", 2)
    assert expendable(listed, version=2, keep=0) == [
        "m/a/v000000001/manifest.json",
        "m/a/v000000001/model.safetensors",
    ]


def test_what_the_pointer_names_stays_even_when_it_is_the_oldest() -> None:
    """After a move to an older version that one is what everybody loads."""
    listed = version("a", 1) + version("a", 2) + version("a", 3)
    gone = expendable(listed, version=1, keep=1)
    assert {path.split("/")[2] for path in gone} == {"v000000002"}


def test_what_is_pinned_stays_besides_those_that_are_kept() -> None:
    """A rollback must not take the place of the newest, nor be lost to them."""
    listed = [*version("b", 7, age=timedelta(9)), *(each for number in range(1, 7) for each in version("a", number))]
    gone = expendable(listed, version=6, keep=2, pinned={("a", 2), ("b", 7), ("c", 1)})
    assert {path.split("/")[2] for path in gone} == {"v000000001", "v000000003"}


def test_what_a_pinned_version_is_a_delta_of_stays_with_it() -> None:
    """A rollback would name a version that nobody can put together any more."""
    listed = [each for number in range(1, 7) for each in version("a", number)]
    gone = expendable(listed, version=6, keep=1, bases={("a", 4): 3, ("a", 3): 1}, pinned={("a", 4)})
    assert {path.split("/")[2] for path in gone} == {"v000000002"}


def test_own_versions_stay_before_those_of_other_runs_and_those_by_age() -> None:
    """The newest version of a former run is the next best to fall back to."""
    listed = version("b", 9, age=timedelta(2)) + version("c", 1, age=timedelta(1)) + version("a", 1) + version("a", 2)
    stay = [{"a1", "c1", "b9"}, {"a1", "c1"}, {"a1"}, set()]
    for keep, expected in zip((3, 2, 1, 0), stay, strict=True):
        gone = {path.split("/")[1] + path.split("/")[2][-1] for path in expendable(listed, version=2, keep=keep)}
        assert gone == {"a1", "c1", "b9"} - expected


def test_files_without_a_manifest_go_only_when_nobody_can_be_writing_them() -> None:
    """A second trainer's version in the making must not lose its files."""
    orphan = "model.safetensors"
    listed = [
        *version("a", 5),
        *version("a", 4, names=orphan),
        *version("a", 6, names=orphan),
        *version("b", 1, names=orphan, age=ORPHAN_AGE),
        *version("c", 1, names=orphan, age=ORPHAN_AGE + timedelta(seconds=1)),
    ]
    assert expendable(listed, version=5, keep=9) == [
        "m/a/v000000004/model.safetensors",
        "m/c/v000000001/model.safetensors",
    ]


def test_what_is_no_version_stays() -> None:
    """The pointer, and whatever a person put there."""
    listed = [*version("a", 2), Listed("m/latest", NOW), Listed("m/notes.txt", NOW), Listed("m/a/v1/x", NOW)]
    assert expendable(listed, version=2, keep=0) == []


def test_nothing_goes_where_the_named_version_is_not_listed() -> None:
    """Then another trainer has deleted it, and this one knows too little."""
    listed = version("a", 1) + version("b", 2)
    assert expendable(listed, version=2, keep=0) == []


def gone(listed: Iterable[Listed], **wanted: Any) -> list[str]:
    """Versions that may go, in their order, by run and number."""
    paths = [path.split("/") for path in expendable(listed, **wanted)]
    return [run_id + str(int(number[1:])) for _, run_id, number, name in paths if name == "manifest.json"]


def test_bases_stay_as_long_as_what_is_told_by_them() -> None:
    """A delta whose base is gone is bytes without a meaning, and so are all that follow it."""
    listed = [each for number in range(1, 8) for each in version("a", number)]
    bases = {("a", 2): 1, ("a", 3): 2, ("a", 4): 3, ("a", 5): 1, ("a", 6): 5, ("a", 7): 6}
    assert gone(listed, version=7, keep=0, bases=bases) == ["a4", "a3", "a2"]
    assert gone(listed, version=7, keep=3, bases=bases) == []
    assert gone(listed, version=2, keep=1, bases=bases) == ["a4", "a3"]


def test_bases_go_after_their_deltas_whatever_their_times_say() -> None:
    """A process that dies while deleting must leave whole chains; files copied from elsewhere have any time."""
    listed = [
        *(each for number in (1, 2, 3) for each in version("b", number, age=timedelta(number))),
        *version("a", 1),
    ]
    assert gone(listed, version=1, keep=0, bases={("b", 2): 1, ("b", 3): 2}) == ["b3", "b2", "b1"]
    assert gone(listed, version=1, keep=1, bases={("b", 1): 0}) == ["b3", "b2"]


def test_bases_that_go_in_a_circle_are_followed_once() -> None:
    """Publishing must not hang on what somebody wrote into a manifest."""
    listed = [each for number in (1, 2, 3) for each in version("a", number)]
    assert gone(listed, version=2, keep=0, bases={("a", 2): 1, ("a", 1): 2}) == ["a3"]


def test_a_base_that_is_not_there_saves_nothing() -> None:
    """The listing decides what there is; what a manifest claims to need must not be looked for without end."""
    listed = [*version("a", 5), *version("a", 9), *version("a", 3)]
    assert gone(listed, version=9, keep=0, bases={("a", 9): 8, ("a", 8): 3}) == ["a5"]


def test_of_versions_that_were_held_back_the_newest_stays_and_takes_nobodys_place() -> None:
    """After a bad hour there would be nothing left to roll back to, or nothing to look at."""
    listed = [each for number in range(1, 9) for each in version("a", number)]
    assert gone(listed, version=4, keep=2, held_back={5, 6, 7, 8}) == ["a7", "a6", "a5", "a1"]
    assert gone(listed, version=8, keep=2, held_back={5, 6}) == ["a5", "a3", "a2", "a1"]

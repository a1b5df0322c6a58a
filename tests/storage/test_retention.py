from datetime import UTC, datetime, timedelta

from storage.objects import Listed
from storage.retention import ORPHAN_AGE, expendable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def version(
    run_id: str, number: int, *, age: timedelta = timedelta(), names: str = "manifest.json model.safetensors"
) -> list[Listed]:
    return [Listed(f"m/{run_id}/v{number:09d}/{name}", NOW - age) for name in names.split()]


def test_the_manifest_goes_before_its_files() -> None:
    """Files first would leave, after a crash, a manifest that promises what is gone."""
    listed = version("a", 1) + version("a", 2)
    assert expendable(listed, run_id="a", version=2, keep=0) == [
        "m/a/v000000001/manifest.json",
        "m/a/v000000001/model.safetensors",
    ]


def test_what_the_pointer_names_stays_even_when_it_is_the_oldest() -> None:
    """After a move to an older version that one is what everybody loads."""
    listed = version("a", 1) + version("a", 2) + version("a", 3)
    gone = expendable(listed, run_id="a", version=1, keep=1)
    assert {path.split("/")[2] for path in gone} == {"v000000002"}


def test_what_is_pinned_stays_besides_those_that_are_kept() -> None:
    """A rollback must not take the place of the newest, nor be lost to them."""
    listed = [*version("b", 7, age=timedelta(9)), *(each for number in range(1, 7) for each in version("a", number))]
    gone = expendable(listed, run_id="a", version=6, keep=2, pinned={("a", 2), ("b", 7), ("c", 1)})
    assert {path.split("/")[2] for path in gone} == {"v000000001", "v000000003"}


def test_own_versions_stay_before_those_of_other_runs_and_those_by_age() -> None:
    """The newest version of a former run is the next best to fall back to."""
    listed = version("b", 9, age=timedelta(2)) + version("c", 1, age=timedelta(1)) + version("a", 1) + version("a", 2)
    stay = [{"a1", "c1", "b9"}, {"a1", "c1"}, {"a1"}, set()]
    for keep, expected in zip((3, 2, 1, 0), stay, strict=True):
        gone = {
            path.split("/")[1] + path.split("/")[2][-1] for path in expendable(listed, run_id="a", version=2, keep=keep)
        }
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
    assert expendable(listed, run_id="a", version=5, keep=9) == [
        "m/a/v000000004/model.safetensors",
        "m/c/v000000001/model.safetensors",
    ]


def test_what_is_no_version_stays() -> None:
    """The pointer, and whatever a person put there."""
    listed = [*version("a", 2), Listed("m/latest", NOW), Listed("m/notes.txt", NOW), Listed("m/a/v1/x", NOW)]
    assert expendable(listed, run_id="a", version=2, keep=0) == []


def test_nothing_goes_where_the_named_version_is_not_listed() -> None:
    """Then another trainer has deleted it, and this one knows too little."""
    listed = version("a", 1) + version("b", 2)
    assert expendable(listed, run_id="a", version=2, keep=0) == []

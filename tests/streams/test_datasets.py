"""Data sets from files and by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from deploy.settings import environment
from storage.errors import SetupError
from streams.dataset import Dataset
from streams.datasets import NAMED, load_dataset, read_interactions, read_items, read_users
from streams.items import Item
from streams.tables import split_categories

DATA = environment().get("HEADWATER_DATA", "")


def write_csv(folder: Path, text: str, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def write_parquet(folder: Path, columns: dict[str, Any], name: str = "events.parquet") -> Path:
    path = folder / name
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def test_a_csv_file_is_read_in_time_order_with_ties_in_file_order(tmp_path: Path) -> None:
    """The prequential order would depend on how the file was sorted."""
    path = write_csv(tmp_path, "user_id,item_id,ts_ms\nu2,b,20\nu1,x,10\nu1,y,20\nu3,z,10\n")
    rows = read_interactions(path, {})
    assert rows.user_ids == ["u1", "u3", "u2", "u1"]
    assert rows.item_ids == ["x", "z", "b", "y"]
    assert rows.ts_ms.tolist() == [10, 10, 20, 20]
    assert rows.name == "events.csv"
    assert len(rows) == 4


def test_without_an_action_column_every_row_is_a_click(tmp_path: Path) -> None:
    """There would be nothing to learn from a plain log of views."""
    rows = read_interactions(write_csv(tmp_path, "user_id,item_id,ts_ms\nu,i,1\nu,j,2\n"), {})
    assert rows.action_names == ("click",)
    assert rows.actions.tolist() == [1, 1]
    assert np.isnan(rows.values).all()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_are_mapped_by_name(tmp_path: Path, kind: str) -> None:
    """Users' files have other names; swapped ones would go unnoticed."""
    if kind == "csv":
        path = write_csv(tmp_path, "uid,sku,when,what,stars\n1,7,5,buy,2.5\n1,8,3,view,\n2,9,4,,1\n")
    else:
        columns = {"uid": [1, 1, 2], "sku": [7, 8, 9], "when": [5, 3, 4], "what": ["buy", "view", None]}
        path = write_parquet(tmp_path, {**columns, "stars": [2.5, None, 1.0]})
    mapped = {"user_id": "uid", "item_id": "sku", "ts_ms": "when", "action": "what", "value": "stars"}
    rows = read_interactions(path, mapped)
    assert (rows.user_ids, rows.item_ids) == (["1", "2", "1"], ["8", "9", "7"])
    assert rows.action_names == ("buy", "view")
    assert rows.actions.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(rows.values, np.array([np.nan, 1.0, 2.5], np.float32))


def test_a_missing_column_is_named_with_the_flag_that_maps_it(tmp_path: Path) -> None:
    """The newcomer's first file rarely has our names."""
    path = write_csv(tmp_path, "uid,item_id,time\nu,i,1\n")
    with pytest.raises(SetupError) as raised:
        read_interactions(path, {"user_id": "u"})
    assert str(raised.value) == (
        f"{path} lacks the column(s) u, ts_ms; it has uid, item_id, time; map them with --columns user_id=YOUR_NAME"
    )


def test_an_optional_column_that_was_mapped_must_be_there(tmp_path: Path) -> None:
    """A typo in --columns action=... would turn every row into a click."""
    path = write_csv(tmp_path, "user_id,item_id,ts_ms,event\nu,i,1,buy\n")
    with pytest.raises(SetupError, match=r"lacks the column\(s\) evnt"):
        read_interactions(path, {"action": "evnt"})


def test_a_column_that_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    """A typo on the left side would be ignored."""
    path = write_csv(tmp_path, "user_id,item_id,ts_ms\nu,i,1\n")
    with pytest.raises(ValueError, match="columns may map user_id, item_id, ts_ms, action, value, got user"):
        read_interactions(path, {"user": "uid"})


@pytest.mark.parametrize("name", ["user_id", "item_id"])
def test_null_ids_are_refused(tmp_path: Path, name: str) -> None:
    """All rows without a user would become one user called None."""
    columns: dict[str, Any] = {"user_id": ["u", "v"], "item_id": ["i", "j"], "ts_ms": [1, 2]}
    path = write_parquet(tmp_path, columns | {name: ["x", None]})
    with pytest.raises(SetupError, match=rf"{name} must not be null or empty, got 1 such row\(s\)"):
        read_interactions(path, {})


def test_empty_ids_of_a_csv_file_are_refused(tmp_path: Path) -> None:
    """The worker would refuse the event only once the replay is under way."""
    path = write_csv(tmp_path, "user_id,item_id,ts_ms\nu,i,1\n,j,2\n")
    with pytest.raises(SetupError, match=r"user_id must not be null or empty, got 1 such row\(s\)"):
        read_interactions(path, {})


def test_ids_of_a_csv_file_are_taken_as_they_stand(tmp_path: Path) -> None:
    """As numbers 007 and 7 are one user, and 1e3 is 1000.0."""
    path = write_csv(tmp_path, "user_id,item_id,ts_ms\n007,1e3,1\n7,0x10,2\n")
    titles = write_csv(tmp_path, "item_id,title\n1e3,Thousand\n0x10,Sixteen\n", "items.csv")
    rows = read_interactions(path, {}, titles)
    assert rows.user_ids == ["007", "7"]
    assert rows.item_ids == ["1e3", "0x10"]
    assert rows.items["1e3"].title == "Thousand"


@pytest.mark.parametrize("times", [[1.5, 2.0], ["soon", "later"]])
def test_times_that_are_no_integers_are_refused(tmp_path: Path, times: list[Any]) -> None:
    """Seconds with a fraction would be cut to 1970."""
    path = write_parquet(tmp_path, {"user_id": ["u", "v"], "item_id": ["i", "j"], "ts_ms": times})
    with pytest.raises(SetupError, match=r"ts_ms must hold integers \(milliseconds since 1970\), got (double|string)"):
        read_interactions(path, {})


def test_null_times_are_refused(tmp_path: Path) -> None:
    """They would stand for some day of the year -292 million."""
    path = write_csv(tmp_path, "user_id,item_id,ts_ms\nu,i,1\nu,j,\n")
    with pytest.raises(SetupError, match=r"ts_ms must not be null, got 1 null row\(s\)"):
        read_interactions(path, {})


@pytest.mark.parametrize(
    ("kind", "per_second", "odd"),
    [
        (pa.timestamp("s"), 1, 0),
        (pa.timestamp("ms"), 10**3, 0),
        (pa.timestamp("us", "UTC"), 10**6, 1),
        (pa.timestamp("ns"), 10**9, 1),
    ],
)
def test_timestamps_are_cut_to_milliseconds(
    tmp_path: Path, kind: "pa.TimestampType[Any, Any]", per_second: int, odd: int
) -> None:
    """Pandas writes nanoseconds, whose last digits fit no millisecond."""
    times = pa.array([3 * per_second + odd, 2 * per_second], kind)
    path = write_parquet(tmp_path, {"user_id": ["u", "v"], "item_id": ["i", "j"], "ts_ms": times})
    assert read_interactions(path, {}).ts_ms.tolist() == [2_000, 3_000]


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """A wrongly mapped column would end in a traceback."""
    path = write_csv(tmp_path, "user_id,item_id,ts_ms,value\nu,i,1,good\n")
    with pytest.raises(SetupError, match="value must hold numbers, got string"):
        read_interactions(path, {})


@pytest.mark.parametrize("num_kinds", [0, 63])
def test_an_action_column_of_no_or_too_many_kinds_is_refused(tmp_path: Path, num_kinds: int) -> None:
    """Bits of a mask would run out, or there would be no action to learn."""
    kinds: list[str | None] = [f"a{number}" for number in range(num_kinds)] or [None]
    size = len(kinds)
    columns = {"user_id": ["u"] * size, "item_id": ["i"] * size, "ts_ms": [1] * size}
    path = write_parquet(tmp_path, {**columns, "action": pa.array(kinds, pa.string())})
    with pytest.raises(SetupError, match=f"1 to 62 kinds of action, got {num_kinds}"):
        read_interactions(path, {})


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    """A demo of nothing would never end."""
    with pytest.raises(SetupError, match=r"events\.csv has no rows"):
        read_interactions(write_csv(tmp_path, "user_id,item_id,ts_ms\n"), {"user_id": "user_id"})


@pytest.mark.parametrize("name", ["broken.parquet", "broken.csv"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    """An error of the Parquet library names no file."""
    path = tmp_path / name
    path.write_bytes(b"" if name.endswith("csv") else b"PAR1 or not")
    with pytest.raises(SetupError, match=f"cannot read .*{name} as (Parquet|CSV): "):
        read_interactions(path, {})


def test_items_are_read_with_and_without_categories(tmp_path: Path) -> None:
    """The list that is shown would have ids only."""
    full = write_csv(tmp_path, "item_id,title,categories\n1,Toy Story,Animation|Comedy\n2,,\n")
    assert read_items(full) == {
        "1": Item(item_id="1", title="Toy Story", categories=("Animation", "Comedy")),
        "2": Item(item_id="2"),
    }
    lists = write_parquet(tmp_path, {"item_id": ["1"], "title": ["Heat"], "categories": [["Action", "Crime"]]})
    assert read_items(lists)["1"].categories == ("Action", "Crime")
    bare = write_csv(tmp_path, "item_id,title\n1,Toy Story\n", "bare.csv")
    assert read_items(bare) == {"1": Item(item_id="1", title="Toy Story")}


def test_items_without_titles_are_refused(tmp_path: Path) -> None:
    """A file of events given as --items would give empty titles."""
    with pytest.raises(SetupError, match=r"lacks the column\(s\) title"):
        read_items(write_csv(tmp_path, "item_id,ts_ms\n1,2\n"))


def test_categories_come_from_lists_and_from_text() -> None:
    """Both kinds of file are common."""
    assert split_categories("a|b||c") == ("a", "b", "c")
    assert split_categories(["a", 1]) == ("a", "1")
    assert split_categories(None) == ()


def test_an_unknown_name_says_what_is_known(tmp_path: Path) -> None:
    """A typo would end in an error about a file."""
    with pytest.raises(SetupError, match=r"'ml-1k' is no file and no known set; known: ml-100k, simulator, and"):
        load_dataset("ml-1k", cache=tmp_path)
    with pytest.raises(SetupError, match="a folder ml-1m under the setting data"):
        load_dataset("ml-1m", cache=tmp_path, folder=tmp_path)


def test_a_named_set_comes_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting `data` would be ignored."""
    (tmp_path / "made").mkdir()
    made = head_factory()
    monkeypatch.setitem(NAMED, "made", lambda folder: made if folder == tmp_path / "made" else None)
    assert load_dataset("made", cache=tmp_path, folder=tmp_path) is made


def test_a_file_comes_by_its_path(tmp_path: Path) -> None:
    """Columns and items must reach the reader."""
    path = write_csv(tmp_path, "uid,item_id,ts_ms\nu,i,1\n")
    items = write_csv(tmp_path, "item_id,title\ni,Heat\n", "items.csv")
    rows = load_dataset(str(path), cache=tmp_path, columns={"user_id": "uid"}, items=items)
    assert rows.items["i"].title == "Heat"


def head_factory() -> Dataset:
    return Dataset.in_time_order(
        name="made",
        user_ids=["u", "v", "w"],
        item_ids=["i", "j", "k"],
        ts_ms=np.array([3, 1, 2]),
        actions=np.array([1, 2, 4]),
        values=np.array([0.5, 1.5, 2.5], np.float32),
        action_names=("a", "b", "c"),
        items={"i": Item(item_id="i")},
    )


def test_the_head_of_a_set_cuts_every_column() -> None:
    """A column of another length would shift all that follow."""
    rows = head_factory()
    assert rows.head(None) is rows
    head = rows.head(2)
    assert (head.user_ids, head.item_ids) == (["v", "w"], ["j", "k"])
    columns = (head.ts_ms.tolist(), head.actions.tolist(), head.values.tolist())
    assert columns == ([1, 2], [2, 4], [1.5, 2.5])
    assert (head.items, head.action_names) == (rows.items, rows.action_names)
    assert len(rows.head(99)) == 3
    with pytest.raises(ValueError, match="limit must be >= 1, got 0"):
        rows.head(0)


def test_rows_of_one_impression_know_each_other() -> None:
    """An impression would lack items, or have those of the next."""
    rows = head_factory()
    assert [rows.shown_with(row) for row in range(3)] == [range(1), range(1, 2), range(2, 3)]
    grouped = replace(rows, groups=np.array([4, 4, 2]))
    assert [grouped.shown_with(row) for row in range(3)] == [range(2), range(2), range(2, 3)]
    assert grouped.head(1).shown_with(0) == range(1)


def test_a_drift_s_row_is_the_first_at_its_time_or_later() -> None:
    """A plot would show the fall before its cause."""
    rows = replace(head_factory(), drifts_ms=(0, 2, 3, 4))
    assert rows.drift_rows == [0, 1, 2]
    assert rows.head(1).drift_rows == [0]
    assert head_factory().drift_rows == []


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_users_are_read_with_what_is_known_of_each(tmp_path: Path, kind: str) -> None:
    """An empty cell would be a value like any other, and the number 1.0 another one than 1."""
    if kind == "csv":
        path = write_csv(tmp_path, "user_id,age,plan\n007,30,paid\nu2,,free\n")
    else:
        path = write_parquet(tmp_path, {"user_id": ["007", "u2"], "age": [30, None], "plan": ["paid", "free"]})
    assert read_users(path) == {"007": {"age": 30, "plan": "paid"}, "u2": {"plan": "free"}}


def test_users_with_columns_that_are_no_features_are_refused(tmp_path: Path) -> None:
    """A list would fail deep inside a run that has taken an hour."""
    path = write_parquet(tmp_path, {"user_id": ["u"], "tags": [["a", "b"]]})
    with pytest.raises(SetupError, match=r"must be text, numbers or truth values, got tags \(list"):
        read_users(path)

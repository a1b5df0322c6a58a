"""Data sets as histories by user."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from deploy.settings import environment
from streams.histories import load_corpus

DATA = environment().get("HEADWATER_DATA", "")


def test_a_file_becomes_histories_in_time_order(tmp_path: Path) -> None:
    """The last event of a user is the test's: it must be the newest."""
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,ts_ms,action\nu,a,3000,like\nv,b,1000,like\nu,c,2000,like\nu,d,2500,\n")
    corpus = load_corpus(str(path), cache=tmp_path)
    assert corpus.lengths.tolist() == [2, 1]
    assert corpus.items_T.tolist() == [3, 1, 2]
    assert corpus.seconds_T.tolist() == [2, 3, 1]


def test_movielens_1m_has_all_its_users_in_the_order_of_the_file_s_positions(tmp_path: Path) -> None:
    """Ties in time are many: another order among them is another task."""
    (tmp_path / "ml-1m").mkdir()
    columns = {"user_id": [4_000, 1, 1, 4_000], "item_id": [7, 9, 8, 9], "pos": [1, 1, 0, 0]}
    events = pa.table({**columns, "rating": [5, 3, 1, 5], "ts_filled": [4, 4, 4, 4]})
    pyarrow.parquet.write_table(events, tmp_path / "ml-1m" / "events.parquet")
    films = pa.table({"item_id": [7, 8, 9], "title": ["A", "B", "C"], "genres": ["x|y", "", "z"]})
    pyarrow.parquet.write_table(films, tmp_path / "ml-1m" / "items.parquet")
    corpus = load_corpus("ml-1m", cache=tmp_path, folder=tmp_path)
    assert corpus.offsets.tolist() == [0, 2, 4]
    assert corpus.items_T.tolist() == [2, 3, 3, 1]


@pytest.mark.skipif(not DATA or not (Path(DATA) / "ml-1m").is_dir(), reason="HEADWATER_DATA holds no ml-1m")
def test_the_real_movielens_1m_is_whole() -> None:
    """Published figures are over all 6,040 users, 3,706 items and 1,000,209 ratings."""
    corpus = load_corpus("ml-1m", cache=Path(), folder=Path(DATA))
    assert (corpus.num_users, corpus.num_items, len(corpus.items_T)) == (6_040, 3_706, 1_000_209)
    same_user = np.repeat(np.arange(6_040), corpus.lengths)
    assert (np.diff(corpus.seconds_T)[same_user[1:] == same_user[:-1]] >= 0).all()

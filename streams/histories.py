"""Data sets as histories by user: what `model.corpus` is made of."""

from collections.abc import Callable, Mapping
from pathlib import Path

from model.corpus import Corpus
from streams.datasets import load_dataset
from streams.movielens import movielens_1m_histories


def load_corpus(
    name: str,
    *,
    cache: Path,
    folder: Path | None = None,
    columns: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Corpus:
    """Every user's events in time order, ties in file order; exposures without action are left out.

    Of `ml-1m` these are all 6,040 users in the order of its column `pos`, not only those whose times are exact.
    Arguments are those of `load_dataset`. Raises `SetupError` for what is missing.
    """
    if name == "ml-1m" and folder is not None and (folder / name).is_dir():
        dataset = movielens_1m_histories(folder / name)
    else:
        dataset = load_dataset(name, cache=cache, folder=folder, columns=columns, say=say)
    acted = dataset.actions != 0
    user_ids = [user for user, kept in zip(dataset.user_ids, acted, strict=True) if kept]
    item_ids = [item for item, kept in zip(dataset.item_ids, acted, strict=True) if kept]
    return Corpus.from_events(dataset.name, user_ids, item_ids, dataset.ts_ms[acted] // 1000)

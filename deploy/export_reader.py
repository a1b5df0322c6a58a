"""Answers from a folder that `headwater snapshots export` wrote; needs nothing of Headwater.

    from reader import Events, Reader

    reader = Reader("FOLDER")  # every file is held against its sha256 first
    events = Events(item_ids=["50"], ts_ms=[1_700_000_000_000], actions=[reader.mask("like")], groups=[0])
    reader.recommend(events, now_ms=1_700_000_100_000, k=10)  # [(item id, score), ...]
    reader.rank(events, now_ms=1_700_000_100_000, item_ids=["1", "7"])  # [{action: probability}, ...]

Needs Python 3.11, torch (from the version in config.json on), numpy, safetensors, pyarrow. Without xxhash all ids that
have no row of their own are read as one nameless item, and a warning says so; with it, as Headwater reads them. Files
are checked for damage, not for intent: `torch.export.load` can unpickle.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

FORMAT, FORMAT_VERSION = "headwater-export", 1
_FORGOTTEN, _NUM_RECENT = 4, 5

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class ExportError(ValueError):
    """The folder is no export that this reader can read, or is damaged."""


class Feature(NamedTuple):
    """Something known of the user from a moment on."""

    ts_ms: int
    place: int
    """Index of the first event that is not before it; the number of events where all are."""
    name: str
    value: str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Events:
    """A user's last events, oldest first, and how what is known of the user changed.

    A worker's `GET /sequence` tells them under these names, features as `feature_segments`; its values are not needed.
    """

    item_ids: Sequence[str] = ()
    ts_ms: Sequence[int] = ()
    actions: Sequence[int] = ()
    """Bit i is set where there was action i of `Reader.actions`; 0 is a bare exposure."""
    groups: Sequence[int] = ()
    """Events of one impression share a number."""
    features: Sequence[Feature] = ()

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.item_ids, self.ts_ms, self.actions, self.groups)}
        if len(lengths) > 1:
            raise ValueError(f"item_ids, ts_ms, actions and groups must have one length, got {sorted(lengths)}")


class Reader:
    """One exported version, loaded and verified; what it is asked changes nothing. Raises `ExportError`.

    With `onnx` its programs are the folder's ONNX ones, if it has any, and need onnxruntime.
    """

    def __init__(self, folder: str | Path, *, onnx: bool = False) -> None:
        suffix, folder = "onnx" if onnx else "pt2", Path(folder)
        programs = [f"{name}.{suffix}" for name in ("retrieval", "ranking")]
        self.config = _verified(folder, ["model.safetensors", "vocabulary.parquet", *programs])
        self.actions: list[str] = self.config["actions"]
        self._arrays = load_file(folder / "model.safetensors")
        self._retrieval, self._ranking = (_program(folder / name) for name in programs)
        self._described, self._flags = (self._arrays[f"contents.{name}"].numpy() for name in ("key", "flags"))
        table = pq.read_table(folder / "vocabulary.parquet")
        ids = np.array(table["id"].to_pylist(), object)
        keys, rows, shown = (table[name].to_numpy().copy() for name in ("key", "row", "shown"))
        self._row_of: dict[str, int] = dict(zip(ids.tolist(), rows.tolist(), strict=True))
        self._vectors = self._arrays["items.weight"].clone()
        self._vectors[rows] += self._content(keys)
        self._shown_ids: list[str] = ids[shown].tolist()
        self._shown_rows: Ints = rows[shown]
        self._units = F.normalize(self._vectors[self._shown_rows], dim=-1, eps=1e-6)

    def mask(self, *actions: str) -> int:
        """The number that stands for these actions on one event."""
        return sum(1 << self.actions.index(name) for name in set(actions))

    @torch.inference_mode()
    def recommend(
        self, events: Events, *, now_ms: int, k: int, unavailable: Container[str] = ()
    ) -> list[tuple[str, float]]:
        """Up to k (item id, score), best first, without what the user acted on and what is unavailable."""
        if k < 1:
            raise ValueError(f"k must be >= 1, got {k}")
        history = self._history(events, now_ms)
        scores = self._retrieval(**history, unit_ID=self._units, counted_IG=self._counted(events))[1].numpy()
        acted = {item_id for item_id, mask in zip(events.item_ids, events.actions, strict=True) if mask}
        places = (place for place in np.argsort(-scores, kind="stable").tolist() if np.isfinite(scores[place]))
        pairs = ((self._shown_ids[place], float(scores[place])) for place in places)
        return list(islice((pair for pair in pairs if pair[0] not in acted and pair[0] not in unavailable), k))

    def rank(self, events: Events, *, now_ms: int, item_ids: Sequence[str]) -> list[dict[str, float]]:
        """Probability of each action for each item, in the order asked."""
        probabilities = self._ranked(events, now_ms, item_ids)[0]
        return [dict(zip(self.actions, row, strict=True)) for row in probabilities.tolist()]

    def values(self, events: Events, *, now_ms: int, item_ids: Sequence[str]) -> list[float]:
        """The value to expect with an action on each item; raises `ValueError` where the model predicts none."""
        if not self.config["model"]["predict_values"]:
            raise ValueError("this model predicts no values: it was learned without predict_values")
        scaled = self._ranked(events, now_ms, item_ids)[1][:, 0].double()
        count, total, squares = self._arrays["values.scale"].tolist()
        mean = total / count if count >= 2 else 0.0
        deviation = max(squares / count - mean**2, 1e-6) ** 0.5 if count >= 2 else 1.0
        return [float(value) for value in torch.sinh((scaled * deviation + mean).clamp(-40, 40))]

    @torch.inference_mode()
    def _ranked(self, events: Events, now_ms: int, item_ids: Sequence[str]) -> Sequence[Tensor]:
        return self._ranking(
            **self._history(events, now_ms),
            candidate_CD=self._vectors_of(item_ids),
            counts_CF=self._arrays["rates.items"][self._rows(item_ids)],
            total_F=self._arrays["rates.total"],
            now_seconds=torch.tensor(now_ms // 1_000),
        )

    def _rows(self, item_ids: Sequence[str]) -> Ints:
        """Row of each item, 0 where it has none of its own."""
        return np.array([self._row_of.get(item_id, 0) for item_id in item_ids], np.int64)

    def _vectors_of(self, item_ids: Sequence[str]) -> Tensor:
        """The vector of each item; without a row, what its shared rows and its words have learned."""
        rows = self._rows(item_ids)
        vectors, unknown = self._vectors[rows], np.flatnonzero(rows == 0)
        if len(unknown):
            keys, shared = _keys([item_ids[place] for place in unknown.tolist()]), self._arrays["dense.shared_items"]
            places, is_known = self._places(keys)
            keys[is_known] *= self._flags[places[is_known]] & _FORGOTTEN == 0
            halves = np.stack([keys & 0xFFFFFFFF, (keys >> 32) & 0xFFFFFFFF], -1) % len(shared)
            vectors[unknown] = shared[halves].mean(1) + self._content(keys)
        return vectors

    def _content(self, keys: Ints) -> Tensor:
        """What is learned of items by their words."""
        table, words = self._arrays["dense.words"], self._arrays["contents.words"]
        if not len(table):
            return table.new_zeros(len(keys), table.shape[1])
        places, is_known = self._places(keys)
        words_of = words.new_zeros(len(keys), words.shape[1])
        words_of[is_known] = words[places[is_known]]
        return F.embedding_bag(words_of, table, mode="mean", padding_idx=0)

    def _places(self, keys: Ints) -> tuple[Ints, Flags]:
        """Where it is that the catalogue tells of each key, and whether it does."""
        places = np.searchsorted(self._described, keys)
        is_known = places < len(self._described)
        is_known[is_known] = self._described[places[is_known]] == keys[is_known]
        return places, is_known

    def _counted(self, events: Events) -> Tensor:
        """Logs of what is counted of each item that may be shown, one column for each kind."""
        rows, masks = self._rows(events.item_ids), np.array(events.actions, np.int64)
        counted = torch.zeros(len(self._shown_rows), len(self.config["counts"]))
        for column, name in enumerate(self.config["counts"]):
            counts = self._arrays["items.count"] if name == "popularity" else self._followed(rows[masks != 0])
            counted[:, column] = torch.log1p(counts[self._shown_rows])
        return counted

    def _followed(self, acted: Ints) -> Tensor:
        """How much each row followed the user's last ones, the newest counting most."""
        newest = list(dict.fromkeys(acted[acted > 0][: -_NUM_RECENT - 1 : -1].tolist()))
        successors = self._arrays["memory.successors"].numpy()[newest]
        counts = self._arrays["memory.counts"].numpy()[newest] / np.arange(1, len(newest) + 1)[:, None]
        is_row = successors >= 0
        return torch.from_numpy(np.bincount(successors[is_row], counts[is_row], len(self._vectors)))

    def _history(self, events: Events, now_ms: int) -> dict[str, Tensor]:
        """What the programs are told of the user."""
        columns, told_events = _window(events, now_ms // 1_000, self.config)
        vectors = torch.zeros(len(columns["seconds_T"]), self._vectors.shape[1])
        vectors[columns["has_item_T"]] = self._vectors_of([events.item_ids[event] for event in told_events.tolist()])
        return {"item_TD": vectors} | {name: torch.from_numpy(column) for name, column in columns.items()}


def _window(events: Events, now: int, config: dict[str, Any]) -> tuple[dict[str, npt.NDArray[Any]], Ints]:
    """The history's tokens as columns, BOS first, and the events whose items they tell of.

    Events and what was told of the user are entries, by time, of which the newest are kept.
    """
    count, index = len(events.item_ids), np.arange(len(events.item_ids))
    groups, num_rows = np.array(events.groups, np.int64), config["model"]["feature_rows"]
    starts = np.maximum.accumulate(np.where(np.r_[True, groups[1:] != groups[:-1]][:count], index, 0))
    kept = [each for each in events.features if not isinstance(each.value, float) or each.value.is_integer()]
    told = sorted(kept, key=lambda each: (each.ts_ms, each.name)) if num_rows else []
    before = np.array([starts[each.place] if each.place < count else count for each in told], np.int64)
    # Where each event is among the entries; a feature is a group of its own.
    at = index + np.searchsorted(before, index, side="right")
    event_of = np.full(count + len(told), -1)
    event_of[at] = index
    first, seconds = np.arange(len(event_of)), np.zeros(len(event_of), np.int64)
    first[at], seconds[at] = at[starts], np.array(events.ts_ms, np.int64) // 1_000
    seconds[event_of < 0] = [each.ts_ms // 1_000 for each in told]
    features = np.full((len(event_of), 2), -1)
    features[event_of < 0] = np.array([_feature_rows(each, num_rows) for each in told], np.int64).reshape(-1, 2)
    entries = _newest(features[:, 0], config["limits"])
    entry, has_item, has_action = _tokens(np.searchsorted(entries, first[entries]), config["token_layout"])
    seconds, features, event = np.append(seconds[entries], now), features[entries], event_of[entries][entry]
    asked = np.where(has_action, seconds[entry + 1], seconds[entry])
    columns = {
        "has_item_T": np.r_[False, has_item & (event >= 0)],
        "actions_T": np.r_[-1, np.where(has_action, np.append(np.array(events.actions, np.int64), -1)[event], -1)],
        "features_T2": np.r_[[[-1, -1]], np.where(np.stack([has_item, has_action], -1), features[entry], -1)],
        "seconds_T": np.r_[seconds[0], seconds[entry]],
        "query_seconds_T": np.r_[seconds[0], asked],
    }
    return columns, event[columns["has_item_T"][1:]]


def _newest(names: Ints, limits: dict[str, int]) -> Ints:
    """The newest entries, and before them the newest of each feature that was told of earlier."""
    too_many = len(names) - limits["entries"]
    if too_many <= 0:
        return np.arange(len(names))
    start = too_many + len(_newest_of_each(names, limits["features"]))
    return np.append(_newest_of_each(names[:start], start - too_many), np.arange(start, len(names)))


def _newest_of_each(names: Ints, most: int) -> Ints:
    told = np.flatnonzero(names >= 0)[::-1]
    first = np.unique(names[told], return_index=True)[1]
    return np.asarray(np.sort(told[np.sort(first)[:most]]), np.int64)


def _tokens(first: Ints, layout: str) -> tuple[Ints, Flags, Flags]:
    """Entry of each token, whether it tells of the item, and whether of the actions; given where groups begin."""
    index, every = np.arange(len(first)), np.ones(len(first), np.bool_)
    if layout == "targets":
        return index, every, every
    ends = np.searchsorted(first, first, side="right")
    order = np.argsort(np.r_[first + index, ends + index])
    return np.tile(index, 2)[order], order < len(index), order >= len(index)


def _feature_rows(told: Feature, num_rows: int) -> list[int]:
    """Rows of a feature's name, and of name and value; 3 and 3.0 are one value."""
    value = int(told.value) if isinstance(told.value, float) else told.value
    texts = (f"{told.name!r}", f"{told.name!r}={value!r}")
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    return [int.from_bytes(digest, "little") % num_rows for digest in digests]


def _keys(item_ids: Sequence[str]) -> Ints:
    """XXH3 of each id as int64; 0, the nameless item, without xxhash."""
    try:
        xxhash: Any = import_module("xxhash")
    except ImportError:
        warnings.warn("xxhash is not installed: ids without a row are read as one nameless item", stacklevel=2)
        return np.zeros(len(item_ids), np.int64)
    digests = [xxhash.xxh3_64_intdigest(item_id.encode("utf-8", "surrogatepass")) for item_id in item_ids]
    return np.array(digests, np.uint64).view(np.int64)


def _program(path: Path) -> Callable[..., Sequence[Tensor]]:
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    run = import_module("onnxruntime").InferenceSession(path).run
    return lambda **given: [torch.from_numpy(told) for told in run(None, {name: given[name].numpy() for name in given})]


def _verified(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """The config, once the files that are read are as it says."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
        if (config["format"], config["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ExportError(f"{folder} must be a {FORMAT} of format_version {FORMAT_VERSION}")
        for name in names:
            with (folder / name).open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            got, told = {"bytes": (folder / name).stat().st_size, "sha256": sha256}, config["files"][name]
            if got != told:
                raise ExportError(f"{folder / name} must have {told}, got {got}: it is damaged, copy the folder anew")
    except (OSError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ExportError(f"{folder} is no export of Headwater, or not all of it: {error!r}") from error
    return config

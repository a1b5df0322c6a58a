"""Learned models and histories, for the tests of exports."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.export_reader import Events, Feature
from model.contents import Description
from model.evaluation import Histories
from model.row_arrays import ROW_ARRAYS
from model.sequence import UserSequence
from model.settings import ModelSettings
from model.user_features import UserFeature
from storage.manifest import Manifest, ManifestDraft, Table
from storage.snapshot_store import SnapshotStore
from tests.model.synthetic import SMALL, feed, learner_factory, markov_stream

WIDE = dataclasses.replace(SMALL, layout="interleaved", window=64, num_layers=2, predict_values=True, ranking_experts=2)
BARE = dataclasses.replace(
    SMALL,
    num_heads=1,
    transition_memory=False,
    popularity_prior=False,
    action_rates=False,
    feature_rows=0,
    content_rows=0,
)
NOW_MS = 700_000
HIDDEN, FORGOTTEN, DESCRIBED = "i7", "i8", "described, and never seen"
Arrays = dict[str, npt.NDArray[Any]]
CHILD = """
import importlib, json, sys
folder, libraries = sys.argv[1:]
sys.path += [libraries, folder]
for name in ("deploy", "model", "storage", "streams"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported")
import reader
here, told, (histories, asked) = reader.Reader(folder), [], json.load(sys.stdin)
for columns in histories:
    columns["features"] = [reader.Feature(*each) for each in columns["features"]]
    events = reader.Events(**columns)
    told.append([here.recommend(events, now_ms=700_000, k=1_000), here.rank(events, now_ms=700_000, item_ids=asked)])
json.dump(told, sys.stdout)
"""
"""What a process without our packages runs: it answers for histories from stdin, with the reader of a folder."""


def learned(settings: ModelSettings, num_events: int) -> Arrays:
    """What serving needs of a model that learned so much; one item may not be shown, one was forgotten."""
    learner = learner_factory(settings)
    stream, histories = markov_stream(num_events), Histories()
    stream = [dataclasses.replace(each, value=float(number % 40)) for number, each in enumerate(stream)]
    for told in (
        Description(item_id=HIDDEN, words=("category comedy",), available=False),
        Description(item_id=FORGOTTEN, forgotten=True),
        Description(item_id=DESCRIBED, words=("category comedy", "author somebody"), available=False),
        Description(item_id="i9", words=("author somebody",)),
    ):
        learner.describe(told)
    feed(learner, stream, histories)
    arrays = learner.state()[0]
    # All ids are admitted in so short a stream, so that these have learned nothing.
    shared = np.random.default_rng(0).normal(size=arrays["dense.shared_items"].shape)
    return arrays | {"dense.shared_items": shared.astype(np.float32)}


def publish(store: SnapshotStore, version: int, settings: ModelSettings, arrays: Arrays) -> Manifest:
    """Publish arrays, as a delta where that is due."""
    table = Table(rows=len(arrays["items.weight"]), dim=settings.dim, dtype="float32", columns=ROW_ARRAYS)
    draft = ManifestDraft(
        run_id="run",
        version=version,
        config=dataclasses.asdict(settings) | {"actions": list(settings.actions)},
        tables={"items": table},
        event_time_ms=NOW_MS,
    )
    return store.publish({"model": arrays}, draft)


def history(seed: int) -> UserSequence:
    """From no event to three windows of them, on items known and strange, with features between them."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([0, 1, 3, 14, 15, 16, 40, 100, 200]))
    item_ids = [f"i{number}" for number in rng.integers(66, size=count)]
    for place in rng.integers(max(count, 1), size=count // 4):
        item_ids[place] = str(rng.choice([HIDDEN, FORGOTTEN, DESCRIBED, "never seen"]))
    ts_ms = np.sort(rng.integers(NOW_MS - 1, size=count))
    places = np.sort(rng.integers(count + 1, size=int(rng.integers(9))))
    values = rng.choice(np.array(["paid", "free", 3, 3.0, 2.5, True], object), len(places))
    features = [
        UserFeature(int(ts_ms[place]) if place < count else NOW_MS, place, f"feature {number % 4}", value)
        for number, (place, value) in enumerate(zip(places.tolist(), values.tolist(), strict=True))
    ]
    return UserSequence(
        user_id="u",
        item_ids=item_ids,
        ts_ms=ts_ms,
        actions=rng.integers(8, size=count) * rng.integers(2, size=count),
        values=np.full(count, np.nan, np.float32),
        groups=np.cumsum(rng.integers(2, size=count)),
        new=np.zeros(count, np.int64),
        order=np.zeros(count, np.int64),
        features=features,
    )


def columns_of(sequence: UserSequence) -> dict[str, Any]:
    """A history as the reader takes it, as JSON values."""
    return {
        "item_ids": sequence.item_ids,
        "ts_ms": sequence.ts_ms.tolist(),
        "actions": sequence.actions.tolist(),
        "groups": sequence.groups.tolist(),
        "features": [list(each) for each in sequence.features],
    }


def events_of(sequence: UserSequence) -> Events:
    """A history as the reader takes it."""
    columns = columns_of(sequence)
    return Events(**columns | {"features": [Feature(*each) for each in columns["features"]]})

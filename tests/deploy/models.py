"""Small models and their snapshots, for the tests of those who load them."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.action_rates import ActionRates
from model.contents import Contents
from model.network import Network, dense_arrays
from model.packed_ids import pack_ids
from model.recommender import Recommender
from model.settings import ModelSettings
from model.transition_memory import TransitionMemory
from model.value_scale import ValueScale
from storage.manifest import Manifest, ManifestDraft
from storage.snapshot_store import SnapshotStore

SETTINGS = ModelSettings(actions=("like", "dislike"), dim=16, num_layers=1, window=32)
NOW_MS = 1_000_000
"""The clock of those who load them; a version is 2.5 s old."""
ITEM_IDS = tuple(f"i{number}" for number in range(40))


def model_arrays(seed: int) -> dict[str, npt.NDArray[Any]]:
    """Weights drawn from a seed: each seed ranks the items in another order."""
    generator = torch.Generator().manual_seed(seed)
    network = Network(SETTINGS)
    network.reset(generator, generator)
    num_rows = 1 + len(ITEM_IDS)
    weight = np.random.default_rng(seed).normal(size=(num_rows, SETTINGS.dim)).astype(np.float32)
    id_bytes, id_ends = pack_ids(["", *ITEM_IDS])
    live = np.array([0] + [1] * len(ITEM_IDS), np.uint8)
    rows = {"items.weight": weight, "items.id_bytes": id_bytes, "items.id_ends": id_ends, "items.live": live}
    counts = ActionRates(len(SETTINGS.actions)).state(num_rows) | ValueScale().state()
    counts |= TransitionMemory().state(num_rows) | {"items.count": np.zeros(num_rows, np.float32)}
    return dense_arrays(network) | rows | counts | Contents(1, SETTINGS.content_rows).state()


def recommender(seed: int) -> Recommender:
    """The model that version `seed` of `publish` holds."""
    return Recommender.from_state(SETTINGS, model_arrays(seed))


def publish(store: SnapshotStore, version: int, **changes: Any) -> Manifest:
    """Publish weights drawn from the version's number."""
    config = dataclasses.asdict(SETTINGS) | {"actions": list(SETTINGS.actions)}
    draft: dict[str, Any] = {"run_id": "run", "version": version, "created_ms": NOW_MS - 2_500, "config": config}
    return store.publish({"model": model_arrays(version)}, ManifestDraft(**(draft | changes)))

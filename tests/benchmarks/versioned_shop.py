"""Snapshots whose every weight, count and name tells which version wrote it, and what each version has to answer."""

import dataclasses
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deploy.sequence_columns import SequenceColumns
from model.action_rates import ActionRates
from model.contents import Contents
from model.network import Network, dense_arrays
from model.packed_ids import pack_ids
from model.recommender import Recommender
from model.row_arrays import ROW_ARRAYS
from model.settings import ModelSettings
from model.transition_memory import TransitionMemory
from model.value_scale import ValueScale
from storage.manifest import Manifest, ManifestDraft, Table
from storage.snapshot_store import SnapshotStore

SETTINGS = ModelSettings(actions=("like", "dislike"), dim=64, num_layers=2, window=64, content_rows=64)
EVENT_MS = 1_000_000
FAR_MS = 4_000_000_000_000
"""When versions claim to be cut, so that the stream's present is that of the newest event whatever the clock says."""
RENAMED = 20
"""Every so many versions a row goes to another id, and with an odd version only the weights of such rows change."""
NUM_USERS, NUM_EVENTS, LENGTH = 8, 20, 10
TOLERANCE = 1e-5

Arrays = dict[str, npt.NDArray[Any]]


def versioned_arrays(version: int, num_items: int) -> Arrays:
    """All arrays of a version, drawn from its number."""
    generator = torch.Generator().manual_seed(version)
    network = Network(SETTINGS)
    network.reset(generator, generator)
    num_rows = num_items + 1
    is_renamed = np.arange(num_rows) % RENAMED == version % RENAMED
    weight = _rows(version - version % 2, num_rows).copy()
    weight[is_renamed] = _rows(version, num_rows)[is_renamed]
    counts = weight[:, 0] ** 2
    id_bytes, id_ends = pack_ids(["", *(item_id(row, version) for row in range(1, num_rows))])
    live = np.ones(num_rows, np.uint8)
    live[0] = 0
    rows = {"items.weight": weight, "items.id_bytes": id_bytes, "items.id_ends": id_ends, "items.live": live}
    other = ActionRates(len(SETTINGS.actions)).state(num_rows) | ValueScale().state()
    other |= TransitionMemory().state(num_rows) | {"items.count": counts}
    return dense_arrays(network) | rows | other | Contents(1, SETTINGS.content_rows).state()


def item_id(row: int, version: int) -> str:
    """Whose a row is: of the newest version up to this one that gave it away."""
    return f"i{row}-v{version - (version - row) % RENAMED}"


def publish_version(store: SnapshotStore, version: int, num_items: int) -> Manifest:
    """Publish it as a learner would: as a delta where that is due."""
    config = dataclasses.asdict(SETTINGS) | {"actions": list(SETTINGS.actions)}
    table = Table(rows=num_items + 1, dim=SETTINGS.dim, dtype="float32", columns=ROW_ARRAYS)
    draft = ManifestDraft(
        run_id="run",
        version=version,
        created_ms=FAR_MS,
        event_time_ms=EVENT_MS,
        config=config,
        tables={"items": table},
    )
    return store.publish({"model": versioned_arrays(version, num_items)}, draft)


def columns_of(user: int) -> dict[str, Any]:
    """A user's sequence as a worker tells it; some of its ids are known to each version."""
    rows = [1 + (user * 7 + place * 3) % 40 for place in range(NUM_EVENTS)]
    return {
        "user_id": f"u{user}",
        "partition": 0,
        "epoch": 0,
        "applied": 1,
        "item_ids": [item_id(row, RENAMED + place * 5) for place, row in enumerate(rows)],
        "ts_ms": [1_000 * (place + 1) for place in range(NUM_EVENTS)],
        "actions": [place % 2 for place in range(NUM_EVENTS)],
        "values": [None] * NUM_EVENTS,
        "groups": list(range(NUM_EVENTS)),
        "action_names": list(SETTINGS.actions),
    }


class Oracle:
    """What each version has to answer, from a recommender that was made of its arrays alone."""

    def __init__(self, num_items: int) -> None:
        # As the server computes; several would wait for each other where the cores are busy.
        torch.set_num_threads(1)
        self.num_items = num_items

    def agrees(self, version: int, user: int, answer: list[tuple[str, float]]) -> bool:
        """Whether an answer is the version's: ids in their order, scores to 1e-5."""
        wanted = self._answer(version, user)
        return [name for name, _ in answer] == [name for name, _ in wanted] and np.allclose(
            [score for _, score in answer], [score for _, score in wanted], rtol=TOLERANCE, atol=TOLERANCE
        )

    @lru_cache(4_096)  # noqa: B019 - one oracle lives as long as the process
    def _answer(self, version: int, user: int) -> list[tuple[str, float]]:
        sequence = SequenceColumns(**columns_of(user)).to_sequence()
        return self._recommender(version).recommend(sequence, now_ms=EVENT_MS, k=LENGTH)

    @lru_cache(2)  # noqa: B019 - as above
    def _recommender(self, version: int) -> Recommender:
        return Recommender.from_state(SETTINGS, versioned_arrays(version, self.num_items))


@lru_cache(4)
def _rows(version: int, num_rows: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(version).normal(size=(num_rows, SETTINGS.dim)).astype(np.float32)

"""HR@10 between the drifts of a stream, and on items that are born in it, from the ranks of a run.

    headwater evaluate prequential --data simulator --ranks ranks.parquet
    python -m tests.benchmarks.drift_rates --data simulator --ranks ranks.parquet

Each line is a time without drift, cut into parts of equal numbers of rows: after a drift the first is the lowest. Of
the simulator, an item's birth is known; elsewhere it is the item's first row, which is nobody's hit.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

from streams.dataset import Dataset
from streams.simulated_world import START_MS
from streams.simulator_settings import DAY_MS, SIMULATOR
from streams.tables import read_table
from tests.benchmarks.prequential_table import dataset_of

WARM_UP = 0.1
"""Share of the rows that is not counted, as in `headwater evaluate prequential`."""


def births(stream: Dataset) -> dict[str, int]:
    """When each item was born."""
    if stream.name == SIMULATOR:
        return {item_id: item.ts_ms for item_id, item in stream.items.items()}
    first: dict[str, int] = {}
    for item_id, ts_ms in zip(stream.item_ids, stream.ts_ms.tolist(), strict=True):
        first.setdefault(item_id, ts_ms)
    return first


def main() -> None:
    """Read the ranks and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=SIMULATOR)
    parser.add_argument("--ranks", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=5)
    options = parser.parse_args()
    stream, table = dataset_of(options.data), read_table(options.ranks)
    rows, hits = table.column("event").to_numpy(), table.column("rank").to_numpy() <= 10
    counted = rows >= WARM_UP * len(stream)

    def rate(chosen: np.ndarray) -> str:
        chosen = chosen & counted
        return f"{hits[chosen].mean():.3f} ({chosen.sum():,})" if chosen.any() else "-"

    edges = [0, *stream.drift_rows, len(stream)]
    for first, end in pairwise(edges):
        cuts = np.linspace(first, end, options.parts + 1)
        parts = [rate((rows >= low) & (rows < high)) for low, high in pairwise(cuts)]
        print(f"rows {first:,} to {end:,}: {', '.join(parts)}")
    births_ms = births(stream)
    births_Q = np.array([births_ms[str(item)] for item in table.column("item_id").to_pylist()])
    ages_ms = stream.ts_ms[rows] - births_Q
    print(f"all: {rate(counted)}")
    print(f"items born after the warm-up: {rate(births_Q > stream.ts_ms[int(WARM_UP * len(stream))])}")
    print(f"items born in the stream: {rate(births_Q > START_MS)}")
    for days in (0.25, 1, 3):
        print(f"items younger than {days} days: {rate(ages_ms < days * DAY_MS)}")


if __name__ == "__main__":
    main()

"""Holds what an exported folder answers on this machine against what Headwater answered: `python check.py`.

Prints `{"largest_difference": ...}`; exit code 0 where that is at most 1e-5. ONNX programs, if there are any, count.
"""

import json
import math
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

TOLERANCE = 1e-5
"""Most that a score may differ, above 1 as a share of it."""


def difference(reading: Any, reader: Any, probe: dict[str, Any]) -> float:
    """The largest of one probe, by the module `reader.py` and a reader of it; infinity where an item is another one."""
    features = [reading.Feature(*each) for each in probe["events"]["features"]]
    events = reading.Events(**probe["events"] | {"features": features})
    now_ms, asked, told = probe["now_ms"], probe["item_ids"], probe["recommend"]
    scores = reader.recommend(events, now_ms=now_ms, k=1_000_000_000)
    by_id = dict(scores)
    # By place, too: an item that should be far behind must not be among the best.
    pairs = [(score, wanted) for (_, score), (_, wanted) in zip(scores[: probe["k"]], told, strict=True)]
    pairs += [(by_id.get(item_id, math.inf), wanted) for item_id, wanted in told]
    for row, wanted in zip(reader.rank(events, now_ms=now_ms, item_ids=asked), probe["rank"], strict=True):
        pairs += [(row[name], wanted[name]) for name in reader.actions]
    if probe["values"] is not None:
        pairs += zip(reader.values(events, now_ms=now_ms, item_ids=asked), probe["values"], strict=True)
    differences = [abs(here - wanted) / max(1.0, abs(wanted)) for here, wanted in pairs]
    # `max` may pass over a NaN.
    return math.inf if any(map(math.isnan, differences)) else max(differences)


if __name__ == "__main__":
    here = Path(__file__).parent
    sys.path.insert(0, str(here))
    reading = import_module("reader")
    readers = [reading.Reader(here, onnx=onnx) for onnx in (False, True)[: 1 + (here / "ranking.onnx").exists()]]
    probes = json.loads((here / "probes.json").read_bytes())
    largest = max(difference(reading, reader, probe) for probe in probes for reader in readers)
    sys.stdout.write(json.dumps({"largest_difference": largest}) + "\n")
    sys.exit(0 if largest <= TOLERANCE else 1)

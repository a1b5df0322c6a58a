"""The append job in quixstreams: a list in state with its changelog, at least once, as its defaults are.

Run as a process by the Python of an environment that holds quixstreams and nothing of ours; prints one line of JSON.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

CAP = 1_000
EVERY = 20
CONTEXT = 128


def run(bootstrap: str, topic: str, samples: str, folder: str, events: int) -> None:
    """Take in so many events, commit, then print how long it took from the first on."""
    # It is in an environment of its own: what it needs must not enter ours.
    from quixstreams import Application  # type: ignore[import-not-found]

    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{Path(folder).name}",
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        state_dir=folder,
        loglevel="WARNING",
    )
    times: list[float] = []
    count = 0

    def append(event: dict[str, Any], state: Any) -> list[Any] | None:
        nonlocal count
        if not times:
            times.append(time.perf_counter())
        row = state.get("sequence") or {"num": 0, "events": []}
        row["num"] += 1
        row["events"].append([event["item_id"], event["action"], event["ts_ms"]])
        del row["events"][:-CAP]
        state.set("sequence", row)
        count += 1
        if count == events:
            app.stop()
        return row["events"][-CONTEXT:] if row["num"] % EVERY == 0 else None

    stream = app.dataframe(app.topic(topic, key_deserializer="str", value_deserializer="json"))
    stream = stream.apply(append, stateful=True)
    stream = stream.filter(lambda sample: sample is not None)
    stream.to_topic(app.topic(samples, key_serializer="str", value_serializer="json"))
    app.run()
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    figures = {"events": count, "seconds": time.perf_counter() - times[0], "peak_rss_mb": int(peak.split()[1]) / 1024}
    print(json.dumps(figures))  # noqa: T201 - what the bench reads


if __name__ == "__main__":
    _bootstrap, _topic, _samples, _folder, _events = sys.argv[1:]
    run(_bootstrap, _topic, _samples, _folder, int(_events))

"""What a `FaultyWorker` runs: a worker that dies at a point, reads in other portions, or may write no large file.

`faults`: `point` and `hit` as for `die_at`; `file_bytes`, the most that a file may hold; `fetch_bytes` and
`chunk_records`, how much is read at once; `ahead_records`, how far ahead a shipped checkpoint must be to be taken.
"""

import json
import resource
import sys

from tests.crash.step_points import die_at


def main(text: str) -> int:
    """Prepare the faults, then run a worker."""
    faults = json.loads(text)["faults"]
    if "point" in faults:
        die_at(faults["point"], faults["hit"])
    if "file_bytes" in faults:
        resource.setrlimit(resource.RLIMIT_FSIZE, (faults["file_bytes"], resource.RLIM_INFINITY))
    # What is imported here must be imported after `die_at`.
    from storage import shipped_restore
    from streams import chunk_app
    from tests.streams import worker_child

    chunk_app.MAX_FETCH_BYTES = faults.get("fetch_bytes", chunk_app.MAX_FETCH_BYTES)
    chunk_app.MAX_CHUNK_RECORDS = faults.get("chunk_records", chunk_app.MAX_CHUNK_RECORDS)
    shipped_restore.AHEAD_RECORDS = faults.get("ahead_records", shipped_restore.AHEAD_RECORDS)
    return worker_child.main(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

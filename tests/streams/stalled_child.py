"""What a `StalledWorker` runs: a worker whose producer waits while the file `faults.while_there` exists."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types

from streams import chunk_app
from tests.streams import worker_child

PAUSE_SECONDS = 0.05


def main(text: str) -> int:
    """Have the producer wait, then run a worker."""
    faults = json.loads(text)["faults"]
    chunk_app.MAX_CHUNK_RECORDS = faults["chunk_records"]
    blocked = Path(faults["while_there"]).exists
    send_batch = AIOKafkaProducer.send_batch

    async def stalled(*given: Any, **options: Any) -> Any:
        while blocked():  # noqa: ASYNC110 - another process ends it
            await asyncio.sleep(PAUSE_SECONDS)
        return await send_batch(*given, **options)

    AIOKafkaProducer.send_batch = stalled
    return worker_child.main(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""What a `WorkerProcess` runs."""

import json
import logging
import sys
from pathlib import Path

from storage.errors import HeadwaterError
from storage.store_settings import StoreSettings
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings
from streams.worker import WorkerSettings, run_worker


def main(text: str) -> int:
    """Run a worker; 2 where it ends with an error that it explains."""
    logging.basicConfig(level=logging.INFO)
    given = json.loads(text)
    store = given["store"]
    kafka = KafkaSettings(**{**given["kafka"], "bootstrap_servers": tuple(given["kafka"]["bootstrap_servers"])})
    try:
        return run_worker(
            kafka,
            TopicSettings(**given["topics"]),
            StoreSettings(**{**store, "folder": Path(store["folder"]), "actions": tuple(store["actions"])}),
            WorkerSettings(**given["worker"]),
        )
    except HeadwaterError as error:
        print(error)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

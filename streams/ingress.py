"""The ingress: topics of others that hold impressions or actions, validated and forwarded into `events`.

One Faust app and agent for each such topic, in a group of its own. For each chunk of records:

1. Decode each record by itself; one that is no valid event becomes a dead letter, the rest are forwarded.
2. Send all of them, keyed by user, and wait until the brokers have them.
3. Move on; Faust commits the offset now and then.

| if it dies after step | then |
|---|---|
| 1, or within 2 | the chunk is read again; what had arrived of it arrives twice |
| 2, 3 | the same, for all chunks since the last commit |

What arrives twice has one event id both times, its producer's or one made of topic id, partition and offset, and the
store drops the second; a dead letter has one id, too. So each event counts once.
"""

import asyncio
import tempfile
from collections.abc import Collection
from pathlib import Path

from storage.errors import SetupError
from streams.bulk import bulk_producer
from streams.chunk_app import end_on_signals
from streams.faults import Ending
from streams.forwarder import Destination, Forwarder
from streams.garbage import collect_rarely
from streams.ingress_metrics import IngressMetrics
from streams.ingress_settings import IngressSettings
from streams.kafka_settings import KafkaSettings
from streams.quiet import limit_aiokafka_logs
from streams.topics import TopicSettings, existing_topic


def run_ingress(kafka: KafkaSettings, topics: TopicSettings, actions: Collection[str], ingress: IngressSettings) -> int:
    """Forward until SIGTERM or SIGINT and return the exit status.

    `actions` are the known action names. Raises `HeadwaterError` where the setup cannot be used or records expired
    unread. Ends the process with status 70 where nothing else is left.
    """
    if not topics.sources:
        raise SetupError("no topic to forward: set topics.impressions, topics.actions or both")
    for topic in topics.sources:
        existing_topic(kafka, topic)
    destination = Destination(
        topics=topics,
        num_partitions=existing_topic(kafka, topics.events).num_partitions,
        num_letter_partitions=existing_topic(kafka, topics.dead_letters).num_partitions,
        actions=frozenset(actions),
    )
    metrics = IngressMetrics()
    stop_serving = metrics.serve(ingress.metrics_host, ingress.metrics_port)
    try:
        with tempfile.TemporaryDirectory(prefix="headwater-ingress-") as folder:
            collect_rarely()
            asyncio.run(_forward_all(kafka, destination, ingress, metrics, Path(folder)))
    finally:
        stop_serving()
    return 0


async def _forward_all(
    kafka: KafkaSettings, destination: Destination, settings: IngressSettings, metrics: IngressMetrics, folder: Path
) -> None:
    limit_aiokafka_logs()
    ending = Ending()
    end_on_signals(ending)
    producer = bulk_producer(kafka)
    await producer.start()
    forwarders = [
        Forwarder(kafka, topic, kind, destination, settings, metrics, producer, ending, folder)
        for topic, kind in destination.topics.sources.items()
    ]
    await asyncio.gather(*(forwarder.run() for forwarder in forwarders), return_exceptions=True)
    await producer.stop()
    if ending.error is not None:
        raise ending.error

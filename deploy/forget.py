"""`headwater forget user`: the request, acknowledged by the brokers, and what it leaves to time."""

from storage.snapshot_settings import SnapshotSettings
from storage.store_settings import StoreSettings
from streams.delivery import deliver
from streams.kafka_settings import KafkaSettings
from streams.producer import Delivery
from streams.topics import TopicSettings, existing_topic


def forget_user(kafka: KafkaSettings, topics: TopicSettings, user_id: str) -> Delivery:
    """Ask that a user be forgotten; where the brokers put that. Raises `ValueError` and `SetupError`."""
    existing_topic(kafka, topics.events)
    return deliver(kafka, topics.events, lambda producer: producer.forget_user(user_id))


def what_remains(topics: TopicSettings, store: StoreSettings, snapshots: SnapshotSettings) -> dict[str, str]:
    """What still tells of a user once the request is applied and learned, and until when."""
    remains = {
        topics.events: f"the records before, until topics.events_retention_days ({topics.events_retention_days:g})",
        f"{topics.samples}, {topics.dead_letters}": (
            f"what was sent before, until topics.samples_retention_days ({topics.samples_retention_days:g})"
        ),
        "checkpoints": (
            f"those made before, here and at worker.checkpoint_url, until {store.num_checkpoints} newer ones are there"
        ),
        "snapshots": f"those published before, until {snapshots.keep + 1} newer ones are there; copies for good",
        "weights": "what they learned of the user is not unlearned",
    }
    if topics.sources:
        remains[", ".join(topics.sources)] = "all: these topics belong to others"
    return remains

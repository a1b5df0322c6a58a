"""`headwater forget user|item`: the request, acknowledged by the brokers, and what it leaves to time."""

from storage.snapshot_settings import SnapshotSettings
from storage.store_settings import StoreSettings
from streams.delivery import deliver, deliver_item
from streams.items import Item
from streams.kafka_settings import KafkaSettings
from streams.producer import Delivery
from streams.topics import TopicSettings, existing_topic


def forget_user(kafka: KafkaSettings, topics: TopicSettings, user_id: str) -> Delivery:
    """Ask that a user be forgotten; where the brokers put that. Raises `ValueError` and `SetupError`."""
    existing_topic(kafka, topics.events)
    return deliver(kafka, topics.events, lambda producer: producer.forget_user(user_id))


def forget_item(kafka: KafkaSettings, topics: TopicSettings, item_id: str) -> Delivery:
    """Ask that an item be forgotten; where the brokers put that. Raises `ValueError` and `SetupError`."""
    existing_topic(kafka, topics.items)
    return deliver_item(kafka, topics.items, Item(item_id=item_id, available=False, forgotten=True))


def what_remains_of_item(topics: TopicSettings, snapshots: SnapshotSettings) -> dict[str, str]:
    """What still tells of an item once the learner has forgotten it, and until when."""
    return {
        topics.items: "its id, marked as forgotten, until it is described again",
        "sequences": "its id, among what users did, with nothing learned of it, until they are trimmed or forgotten",
        topics.events: f"the records before, until topics.events_retention_days ({topics.events_retention_days:g})",
        topics.samples: f"those sent before, until topics.samples_retention_days ({topics.samples_retention_days:g})",
        "snapshots": _former_snapshots(snapshots),
        "weights": "what the dense ones learned from it is not unlearned",
    }


def _former_snapshots(snapshots: SnapshotSettings) -> str:
    most = snapshots.keep + snapshots.full_every
    until = f"until at most {most} newer ones are there, pinned ones until they are released"
    return f"those published before, {until}; copies for good"


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
        "snapshots": _former_snapshots(snapshots),
        "weights": "what they learned of the user is not unlearned",
    }
    if topics.sources:
        remains[", ".join(topics.sources)] = "all: these topics belong to others"
    return remains

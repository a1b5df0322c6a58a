"""What travels, told to others: JSON Schema of the events, AsyncAPI 3.0 of all topics.

Both are made from the types that the code reads and writes. Names and structure are those of the AsyncAPI
specification (https://www.asyncapi.com/docs/reference/specification/v3.0.0) and its Kafka bindings.
"""

from typing import Any, Literal

import msgspec

from storage.manifest import Pointer
from streams.dead_letters import HEADERS
from streams.events import SCHEMA_VERSION, Action, Event, Forget, Impression, Tick, UserUpdate
from streams.forgotten import Forgotten
from streams.items import Item
from streams.samples import Sample
from streams.topics import NUM_CATALOGUE_PARTITIONS, TopicSettings

ASYNCAPI_VERSION = "3.0.0"
KAFKA_BINDING_VERSION = "0.5.0"
JSON = "application/json"
MESSAGE_PACK = "application/vnd.msgpack"

_EVENTS: tuple[type[msgspec.Struct], ...] = (Impression, Action, UserUpdate, Forget, Tick)
_KEYS: dict[Any, str | None] = {
    Impression: "user_id",
    Action: "user_id",
    UserUpdate: "user_id",
    Forget: "user_id",
    Tick: None,
    Item: "item_id",
    Pointer: "model",
}


def event_schema() -> dict[str, Any]:
    """JSON Schema of the value of an event."""
    (schema,), components = msgspec.json.schema_components((Event,), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headwater event",
        "version": SCHEMA_VERSION,
        **schema,
        "$defs": components,
    }


def asyncapi_document(topics: TopicSettings, version: str) -> dict[str, Any]:
    """AsyncAPI document of all topics under the names of the settings; `version` is that of Headwater."""
    _, schemas = msgspec.json.schema_components(
        (*_EVENTS, Item, Sample, Forgotten, Pointer), ref_template="#/components/schemas/{name}"
    )
    channels = _channels(topics)
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Headwater",
            "version": version,
            "description": "A recommender that learns from the stream it serves. An event's value is JSON, or "
            "MessagePack with the same names, types and limits; the first byte says which.",
        },
        "defaultContentType": JSON,
        "channels": channels,
        "operations": _operations(channels),
        "components": {"messages": _messages(), "schemas": schemas},
    }


def _channels(topics: TopicSettings) -> dict[str, Any]:
    everything = [kind.__name__ for kind in _EVENTS]
    channels = {
        "events": _channel(topics.events, everything, topics, "Events, keyed by user."),
        "items": _channel(topics.items, ["Item"], topics, "The catalogue, compacted, keyed by item."),
        "samples": _channel(
            topics.samples, ["Sample", "Forgotten"], topics, "Training samples, in their source's partition."
        ),
        "snapshots": _channel(topics.snapshots, ["Pointer"], topics, "The newest version, compacted, keyed by model."),
        "deadLetters": _channel(topics.dead_letters, ["DeadLetter"], topics, "Records that were no valid events."),
    }
    if topics.impressions:
        channels["impressions"] = _channel(topics.impressions, ["Impression"], None, "Impressions, keyed at will.")
    if topics.actions:
        channels["actions"] = _channel(topics.actions, ["Action"], None, "Actions, keyed at will.")
    return channels


def _channel(address: str, messages: list[str], topics: TopicSettings | None, description: str) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }
    if topics is not None:
        channel["bindings"] = {
            "kafka": {
                "topic": address,
                "partitions": NUM_CATALOGUE_PARTITIONS
                if address in (topics.items, topics.snapshots)
                else topics.num_partitions,
                "replicas": topics.num_replicas,
                "bindingVersion": KAFKA_BINDING_VERSION,
            }
        }
    return channel


def _operations(channels: dict[str, Any]) -> dict[str, Any]:
    sent = {"samples", "deadLetters", "snapshots"}
    operations = {}
    for name in channels:
        action: Literal["send", "receive"] = "send" if name in sent else "receive"
        operations[f"{action}{name[0].upper()}{name[1:]}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [{"$ref": f"#/channels/{name}/messages/{each}"} for each in channels[name]["messages"]],
        }
    return operations


def _messages() -> dict[str, Any]:
    messages = {kind.__name__: _message(kind, JSON, key) for kind, key in _KEYS.items()}
    messages |= {kind.__name__: _message(kind, MESSAGE_PACK, "user_id") for kind in (Sample, Forgotten)}
    messages["DeadLetter"] = {
        "name": "DeadLetter",
        "title": "Dead letter",
        "contentType": "application/octet-stream",
        "payload": {"description": "The first 64 KiB of the refused value, as it came."},
        "headers": {
            "type": "object",
            "properties": {name: {"type": "string", "description": text} for name, text in HEADERS.items()},
            "required": list(HEADERS),
        },
    }
    return messages


def _message(kind: Any, content_type: str, key: str | None) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": kind.__name__,
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").partition("\n")[0],
        "contentType": content_type,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }
    if key is not None:
        described = {"type": "string", "description": f"{key}, as UTF-8"}
        message["bindings"] = {"kafka": {"key": described, "bindingVersion": KAFKA_BINDING_VERSION}}
    return message

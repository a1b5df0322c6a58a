import json
from typing import Any

from streams.dead_letters import HEADERS
from streams.schema import asyncapi_document, event_schema
from streams.topics import TopicSettings

TOPICS = TopicSettings(prefix="x-", impressions="shown", actions="acted")


def test_the_schema_describes_every_type() -> None:
    schema = event_schema()
    assert schema["version"] == 1
    assert set(schema["$defs"]) == {"Impression", "Action", "UserUpdate", "Forget", "Tick"}
    assert schema["$defs"]["Action"]["required"] == ["type", "ts_ms", "user_id", "item_id", "action"]
    assert not any(reference_of(each, schema) is None for each in references(schema))


def test_the_asyncapi_document_has_what_the_specification_requires() -> None:
    """Generators of clients refuse the document."""
    document = json.loads(json.dumps(asyncapi_document(TOPICS, "1.2.3")))
    assert document["asyncapi"] == "3.0.0"
    assert document["info"]["title"] == "Headwater"
    assert document["info"]["version"] == "1.2.3"
    for channel in document["channels"].values():
        assert channel["address"]
        assert channel["messages"]
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert reference_of(channel, document) is not None
        # The specification wants an operation's messages to be those of its channel, not the components themselves.
        assert all(message["$ref"].startswith(channel + "/messages/") for message in operation["messages"])
    for message in document["components"]["messages"].values():
        assert {"name", "title", "contentType", "payload"} <= message.keys()


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi_document(TOPICS, "1.2.3")
    found = references(document)
    assert len(found) > 20
    assert [each for each in found if reference_of(each, document) is None] == []


def test_the_topics_are_those_of_the_settings() -> None:
    """A document of other names sends clients to topics that nobody reads."""
    named = {channel["address"] for channel in asyncapi_document(TOPICS, "1")["channels"].values()}
    assert named == {*TOPICS.names, "shown", "acted"}
    alone = asyncapi_document(TopicSettings(num_partitions=7), "1")["channels"]
    assert {channel["address"] for channel in alone.values()} == set(TopicSettings().names)
    assert alone["events"]["bindings"]["kafka"]["partitions"] == 7
    assert alone["items"]["bindings"]["kafka"]["partitions"] == 1


def test_what_stands_among_the_samples_is_described() -> None:
    """Who reads the topic stops at the first record of another kind."""
    document = asyncapi_document(TOPICS, "1")
    assert set(document["channels"]["samples"]["messages"]) == {"Sample", "Forgotten"}
    assert {"Sample", "Forgotten"} <= document["components"]["schemas"].keys()


def test_dead_letters_are_described_by_their_headers() -> None:
    """The value alone says nothing of why it was refused."""
    headers = asyncapi_document(TOPICS, "1")["components"]["messages"]["DeadLetter"]["headers"]
    assert set(headers["properties"]) == set(HEADERS) == set(headers["required"])


def references(part: Any) -> list[str]:
    """All `$ref`s in a document."""
    if isinstance(part, dict):
        here = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return here + [each for value in part.values() for each in references(value)]
    if isinstance(part, list):
        return [each for value in part for each in references(value)]
    return []


def reference_of(reference: str, document: Any) -> Any:
    """What a `$ref` names, None where there is nothing."""
    part = document
    for name in reference.removeprefix("#/").split("/"):
        part = part.get(name) if isinstance(part, dict) else None
    return part

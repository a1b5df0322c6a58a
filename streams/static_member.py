"""Static membership: whether another process has come under the same `worker.instance_id` and taken this one's place.

The broker then forgets this process's member id, and a consumer that knows nothing better joins again, under the same
name: the two would take the place from each other for ever.
"""

import asyncio
import logging
from typing import Any

import msgspec
from faust.assignor.partition_assignor import PartitionAssignor
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.errors import SetupError
from streams.kafka_settings import KafkaSettings
from streams.topics import admin_client

logger = logging.getLogger(__name__)


class MovableAssignor(PartitionAssignor):
    """Faust's assignor, which takes an assignment also where it was made for this member at another address.

    A static member that comes back, or the standby that takes its place, gets the assignment that its predecessor
    had; Faust refuses that where it names the predecessor's host or port.
    """

    def on_assignment(self, assignment: Any) -> None:
        """Take an assignment of the group, as one that was made for this address."""
        made = msgspec.json.decode(self._decompress(assignment.user_data))
        former, made["url"] = made["url"], str(self._url)
        for name in ("changelog_distribution", "external_topic_distribution"):
            made[name] = {made["url"] if url == former else url: topics for url, topics in made[name].items()}
        assignment.user_data = self._compress(msgspec.json.encode(made))
        super().on_assignment(assignment)


class StaticMember:
    """A process as a member of the workers' group; without a name, nothing is ever found."""

    def __init__(self, kafka: KafkaSettings, instance_id: str) -> None:
        self._kafka = kafka
        self._instance_id = instance_id
        self._member_id = ""

    def joined(self, member_id: str) -> None:
        """Note the id under which the group has let this process in."""
        self._member_id = member_id

    async def check(self, member_id: str) -> None:
        """Raise `SetupError` where another process has taken this one's place; `member_id` is empty once it is lost."""
        if not self._instance_id or not self._member_id or member_id:
            return
        others = await asyncio.to_thread(self._others)
        if others:
            raise SetupError(
                f"worker.instance_id {self._instance_id!r} is another worker's, too (a client at {others[0]}), which "
                "has taken this one's place in the group: give each worker a name of its own"
            )

    def _others(self) -> list[str]:
        return [
            str(member["client_host"]).lstrip("/")
            for member in self._members()
            if member["group_instance_id"] == self._instance_id and member["member_id"] != self._member_id
        ]

    def _members(self) -> list[dict[str, Any]]:
        group = self._kafka.group
        try:
            with admin_client(self._kafka) as admin:
                members: list[dict[str, Any]] = admin.describe_groups([group])[group]["members"]
        except (SetupError, KafkaError, ValueError) as error:
            logger.warning("the members of group %s cannot be listed: %s", group, error)
            return []
        return members

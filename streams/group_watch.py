"""Watches the workers' group from outside: whether members are missing that were there."""

import asyncio
import logging
import time
from collections.abc import Callable

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings

LOOK_SECONDS = 1.0
"""Pause between two looks."""

logger = logging.getLogger(__name__)


class MissingMembers:
    """Since when a group has had fewer members than it once had.

    >>> missing = MissingMembers(seconds=6)
    >>> [missing.seen(at, members) for at, members in [(0, 0), (1, 2), (2, 1), (7, 1)]]
    [False, False, False, False]
    >>> missing.seen(8, 1)
    True
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._most = 0
        self._since: float | None = None

    def seen(self, now: float, num_members: int) -> bool:
        """Whether members have been missing for `seconds`, given how many there are now."""
        if num_members >= self._most:
            self._most = num_members
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= self.seconds


class GroupWatch:
    """Looks at the group for as long as `run` runs, and calls `missing` while members stay away."""

    def __init__(self, kafka: KafkaSettings, seconds: float, missing: Callable[[], None]) -> None:
        self._kafka = kafka
        self._members = MissingMembers(seconds)
        self._missing = missing

    async def run(self) -> None:
        """Look until cancelled."""
        admin = AIOKafkaAdminClient(**client_options(self._kafka))
        await admin.start()
        try:
            while True:
                if await self._look(admin):
                    logger.warning("members of group %s are missing for longer than their session", self._kafka.group)
                    self._missing()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await admin.close()

    async def _look(self, admin: AIOKafkaAdminClient) -> bool:
        try:
            answers = await admin.describe_consumer_groups([self._kafka.group])
        except KafkaError as error:
            logger.debug("group %s cannot be described: %s", self._kafka.group, error)
            return False
        (found,) = (group for answer in answers for group in answer.groups)
        error_code, _, state, _, _, members, *_ = found
        # While the group gathers anew, members come and go without anyone having died.
        if error_code != 0 or state not in ("Stable", "Empty"):
            return False
        return self._members.seen(time.monotonic(), len(members))

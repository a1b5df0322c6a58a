"""Which worker holds a partition, as the group's assignment says it to every worker; and asking that one."""

from collections.abc import Mapping

import aiohttp
import faust
from faust.assignor.partition_assignor import PartitionAssignor

from streams.http_access import HttpAccess
from streams.ownership import FORWARDED

FORWARD_SECONDS = 2.0
"""How long the owner may take to answer."""


class OwnerUnavailableError(Exception):
    """The worker that holds a partition did not answer."""


class Owners:
    """The workers of the group by the partitions that they hold."""

    def __init__(self, app: faust.App, topic: str, access: HttpAccess = HttpAccess()) -> None:  # noqa: B008 - frozen
        self._app = app
        self._topic = topic
        self._headers = {FORWARDED: "1", **access.headers}
        self._trust = access.trust()

    def url_of(self, partition: int) -> str | None:
        """Address of the other worker to which the group gave a partition; None where that is not known."""
        assignor = self._app.assignor
        assert isinstance(assignor, PartitionAssignor)
        for url, topics in assignor.external_topics_metadata().items():
            if partition in topics.get(self._topic, ()) and url != str(self._app.conf.canonical_url):
                return url
        return None

    async def ask(self, url: str, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        """HTTP status and body of another worker's answer; raises `OwnerUnavailableError`."""
        timeout = aiohttp.ClientTimeout(total=FORWARD_SECONDS)
        asked = self._app.http_client.get(
            url + path, params=query, headers=self._headers, timeout=timeout, ssl=self._trust
        )
        try:
            async with asked as answer:
                return answer.status, await answer.read()
        except (TimeoutError, aiohttp.ClientError) as error:
            detail = str(error) or f"no answer within {FORWARD_SECONDS:g} s"
            raise OwnerUnavailableError(f"worker {url} holds this partition and cannot be asked: {detail}") from error

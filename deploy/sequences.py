"""Reading a user's sequence from the worker that owns the user's partition."""

import asyncio
import math
import time
from typing import TypeVar

import httpx
import msgspec

from deploy.sequence_columns import SequenceColumns
from deploy.told_sequences import ToldSequences
from storage.entries import pack_position
from storage.errors import HeadwaterError
from streams.http_access import HttpAccess
from streams.ownership import NOT_THE_OWNER, OWNER
from streams.partitioning import partition_of

RETRY_SECONDS = 0.1
"""Pause before the owner is looked for again: partitions move between workers for a moment at a time."""


_Decoded = TypeVar("_Decoded")


class SequenceUnavailableError(HeadwaterError):
    """No worker could be asked for the user's sequence."""


class PartitionState(msgspec.Struct, frozen=True):
    """How far the worker of a partition is."""

    applied: int
    """Offset of the newest record that it has applied; -1 before the first."""
    lag: int | None = None
    """Records that wait for it; None where it does not know."""


class _WorkerState(msgspec.Struct, frozen=True):
    num_partitions: int
    partitions: dict[int, PartitionState]


_columns_decoder = msgspec.json.Decoder(SequenceColumns)
_state_decoder = msgspec.json.Decoder(_WorkerState)


class SequenceClient:
    """Asks workers for sequences; remembers which worker owns which partition until one says otherwise.

    Of users asked about lately it holds what it was told, `held_bytes` at most, and asks for what is new. A user whose
    partition moves is looked for again until `timeout_seconds` are over. To be made and used in one event loop;
    `transport` replaces the network in tests.
    """

    def __init__(
        self,
        worker_urls: tuple[str, ...],
        *,
        timeout_seconds: float,
        access: HttpAccess = HttpAccess(),  # noqa: B008 - frozen
        held_bytes: int = 0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.worker_urls = worker_urls
        self.timeout_seconds = timeout_seconds
        # The workers are ours and near: a proxy set for the machine must not come between.
        self._http = httpx.AsyncClient(
            timeout=timeout_seconds,
            transport=transport,
            trust_env=False,
            headers=access.headers,
            verify=access.trust(),
        )
        self.told = ToldSequences(held_bytes)
        self.num_news = 0
        """Answers that told only what was new."""
        self._num_partitions = 0
        self._owners: dict[int, str] = {}
        self._answering: list[str] = []
        self._problems: dict[str, str] = {}
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def read(self, user_id: str, *, last: int | None = None) -> SequenceColumns:
        """The user's newest `last` events, or all; raises `SequenceUnavailableError`, naming the workers asked."""
        if last is not None:
            return await self._read(user_id, {"last": last})
        if self.told.limit_bytes == 0:
            return await self._read(user_id, {})
        held = self.told.get(user_id)
        columns = await self._read(user_id, _behind(held))
        if held is not None and columns.kept:
            self.num_news += 1
            columns = _whole(columns, held)
        # Where nothing is new, it is as of the former position, too.
        if columns.digest and columns.applied >= 0 and (held is None or columns.digest != held.digest):
            self.told.put(columns)
        return columns

    async def _read(self, user_id: str, asked: dict[str, str | int]) -> SequenceColumns:
        try:
            async with asyncio.timeout(self.timeout_seconds):
                while True:
                    asked_at = time.monotonic()
                    owner = self._owner(user_id)
                    columns = None if owner is None else await self._ask(owner, user_id, asked)
                    if columns is not None:
                        return columns
                    await self._look_for_owners(asked_at)
                    if self._owner(user_id) in (None, owner):
                        columns = await self._ask_through_others(user_id, asked)
                        if columns is not None:
                            return columns
                        await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError as error:
            raise SequenceUnavailableError(self._why(user_id)) from error

    async def partitions(self) -> dict[int, PartitionState]:
        """How far each partition is, of those whose workers answer."""
        states = await asyncio.gather(*(self._state(url) for url in self.worker_urls))
        return {number: state for found in states if found for number, state in found.partitions.items()}

    def _owner(self, user_id: str) -> str | None:
        if self._num_partitions == 0:
            return None
        return self._owners.get(partition_of(user_id, self._num_partitions))

    async def _ask(self, url: str, user_id: str, asked: dict[str, str | int]) -> SequenceColumns | None:
        """The worker's answer; None where it cannot be reached or does not own the partition."""
        answer = await self._get(url, "sequence", {"user_id": user_id, **asked})
        if answer is None:
            return None
        if answer.status_code == httpx.codes.OK:
            columns = _decoded(_columns_decoder, answer)
            owner = answer.headers.get(OWNER)
            if owner in self.worker_urls:
                self._owners[columns.partition] = owner
            return columns
        self._problems[url] = f"answered {answer.status_code}"
        if answer.status_code != NOT_THE_OWNER and answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
            raise SequenceUnavailableError(f"worker {url} answered {answer.status_code}: {answer.text[:200]}")
        return None

    async def _ask_through_others(self, user_id: str, asked: dict[str, str | int]) -> SequenceColumns | None:
        """The answer of an owner that is no address of ours, or behind one shared by several, through a worker."""
        for url in self._answering:
            columns = await self._ask(url, user_id, asked)
            if columns is not None:
                return columns
        return None

    async def _look_for_owners(self, asked_at: float) -> None:
        """Ask every worker what it owns, unless another request has done so since `asked_at`."""
        async with self._looking:
            if self._looked_at >= asked_at:
                return
            started_at = time.monotonic()
            states = await asyncio.gather(*(self._state(url) for url in self.worker_urls))
            self._owners = {}
            self._answering = [url for url, state in zip(self.worker_urls, states, strict=True) if state is not None]
            for url, state in zip(self.worker_urls, states, strict=True):
                if state is not None:
                    self._num_partitions = state.num_partitions
                    self._owners.update(dict.fromkeys(state.partitions, url))
            self._looked_at = started_at

    async def _state(self, url: str) -> _WorkerState | None:
        answer = await self._get(url, "state", {})
        if answer is None:
            return None
        if answer.status_code != httpx.codes.OK:
            self._problems[url] = f"answered {answer.status_code}"
            return None
        return _decoded(_state_decoder, answer)

    async def _get(self, url: str, path: str, params: dict[str, str | int]) -> httpx.Response | None:
        """The worker's response, None where it cannot be reached; keeps the reason for the error message."""
        try:
            answer = await self._http.get(f"{url}/{path}", params=params)
        except httpx.TransportError as error:
            self._problems[url] = str(error) or type(error).__name__
            return None
        except asyncio.CancelledError:
            self._problems[url] = f"no answer within {self.timeout_seconds:g} s"
            raise
        self._problems.pop(url, None)
        return answer

    def _why(self, user_id: str) -> str:
        asked = ", ".join(f"{url} ({self._problems.get(url, 'owns other partitions')})" for url in self.worker_urls)
        return f"no worker could be asked for the sequence of user {user_id[:64]!r}: {asked}"


def _decoded(decoder: msgspec.json.Decoder[_Decoded], answer: httpx.Response) -> _Decoded:
    try:
        return decoder.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SequenceUnavailableError(f"{answer.url} did not answer as a worker does: {error}") from error


def _behind(held: SequenceColumns | None) -> dict[str, str | int]:
    if held is None:
        return {"since": 0, "digest": ""}
    return {"since": pack_position(held.epoch, held.applied), "digest": held.digest}


def _whole(news: SequenceColumns, held: SequenceColumns) -> SequenceColumns:
    try:
        return news.behind(held)
    except ValueError as error:
        raise SequenceUnavailableError(
            f"the worker's news of user {held.user_id[:64]!r} do not fit: {error}"
        ) from error

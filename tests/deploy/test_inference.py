"""Questions that wait for one thread."""

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.follower import Replica
from deploy.inference import Inference
from model.question import BestItems, GivenItems
from model.sequence import UserSequence
from tests.deploy.house import House
from tests.deploy.models import ITEM_IDS

USERS = tuple(f"u{number}" for number in range(6))


class Gate:
    """A set of items that nobody may look into until it is opened: who does, waits in the thread."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __contains__(self, _: object) -> bool:
        self.reached.set()
        assert self.opened.wait(30)
        return False


@pytest.fixture
def replicas(tmp_path: Path) -> list[Replica]:
    house, made = House(tmp_path), []
    for version in (1, 2):
        house.publish(version)
        assert house.follower.replica is not None
        made.append(house.follower.replica)
    return made


def question_of(user_id: str, **changes: Any) -> BestItems:
    count = int(user_id[1:]) + 1
    column = np.arange(count, dtype=np.int64)
    sequence = UserSequence(
        user_id=user_id,
        item_ids=list(ITEM_IDS[:count]),
        ts_ms=column * 1_000,
        actions=column % 2,
        values=np.zeros(count, np.float32),
        groups=column,
        new=0 * column,
        order=column,
    )
    return dataclasses.replace(BestItems(sequence=sequence, now_ms=10_000, k=5), **changes)


async def rounds() -> None:
    """Let the loop come to what was begun, and to what that begins."""
    for _ in range(4):
        await asyncio.sleep(0)


def asked_while_busy(
    replica: Replica, max_batch: int, ask: Callable[[Inference], Awaitable[Any]]
) -> tuple[Any, Inference]:
    """What comes of questions that are asked while the thread answers another one."""

    async def run() -> tuple[Any, Inference]:
        inference, gate = Inference(cache_bytes=1 << 20, max_batch=max_batch), Gate()
        first = asyncio.create_task(inference.answer(replica, question_of("u0", unavailable=gate)))
        try:
            await asyncio.to_thread(gate.reached.wait, 30)
            asking = asyncio.ensure_future(ask(inference))
            await rounds()
            gate.opened.set()
            answers = await asking
            await first
        finally:
            gate.opened.set()
            inference.stop()
        return answers, inference

    return asyncio.run(run())


def expected(replica: Replica, user_id: str) -> list[str]:
    sequence = question_of(user_id).sequence
    return [item_id for item_id, _ in replica.recommender.recommend(sequence, now_ms=10_000, k=5)]


@pytest.mark.parametrize(("max_batch", "num_batches"), [(8, 2), (6, 2), (4, 3), (1, 7)])
def test_what_waits_is_answered_together_each_as_if_it_were_alone(
    replicas: list[Replica], max_batch: int, num_batches: int
) -> None:
    """Answers would be given to those who asked something else, or the matrix of all items be read for each again."""
    replica = replicas[0]

    async def ask(inference: Inference) -> Any:
        return await asyncio.gather(*(inference.answer(replica, question_of(user_id)) for user_id in USERS))

    answers, inference = asked_while_busy(replica, max_batch, ask)
    for user_id, answer in zip(USERS, answers, strict=True):
        assert [item_id for item_id, _ in answer] == expected(replica, user_id)
    assert (inference.num_batches, inference.num_questions) == (num_batches, 7)


def test_a_batch_is_of_one_replica(replicas: list[Replica]) -> None:
    """An answer that is stamped with one version would be another's."""
    asked = [(replicas[place], user_id) for place, user_id in zip((0, 0, 1, 0, 1, 1), USERS, strict=True)]

    async def ask(inference: Inference) -> Any:
        return await asyncio.gather(*(inference.answer(replica, question_of(user_id)) for replica, user_id in asked))

    answers, inference = asked_while_busy(replicas[0], 8, ask)
    for (replica, user_id), answer in zip(asked, answers, strict=True):
        assert [item_id for item_id, _ in answer] == expected(replica, user_id)
    assert expected(replicas[0], "u1") != expected(replicas[1], "u1")
    assert inference.num_batches == 5


def test_one_that_fails_fails_alone(replicas: list[Replica]) -> None:
    """Whoever happens to wait beside a request that cannot be answered would be told its error."""
    replica = replicas[0]
    broken = dataclasses.replace(question_of("u2").sequence, groups=np.zeros(9, np.int64))
    questions = [question_of("u1"), question_of("u2", sequence=broken), question_of("u3")]

    async def ask(inference: Inference) -> Any:
        return await asyncio.gather(
            *(inference.answer(replica, question) for question in questions), return_exceptions=True
        )

    (one, error, three), inference = asked_while_busy(replica, 8, ask)
    assert isinstance(error, Exception)
    assert [item_id for item_id, _ in one] == expected(replica, "u1")
    assert [item_id for item_id, _ in three] == expected(replica, "u3")
    assert len(inference.caches) == 3


def test_one_that_goes_away_is_left_out_and_hurts_nobody(replicas: list[Replica]) -> None:
    """A client that hangs up would take the answers of others with it, or be computed for nobody."""
    replica = replicas[0]

    async def ask(inference: Inference) -> Any:
        tasks = [asyncio.create_task(inference.answer(replica, question_of(user_id))) for user_id in USERS[:3]]
        await rounds()
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    (one, cancelled, three), inference = asked_while_busy(replica, 8, ask)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert [item_id for item_id, _ in one] == expected(replica, "u0")
    assert [item_id for item_id, _ in three] == expected(replica, "u2")
    assert inference.num_questions == 3


def test_lists_and_probabilities_are_answered_side_by_side(replicas: list[Replica]) -> None:
    """`/rank` and `/recommend` of one user wait in one queue."""
    replica, best = replicas[0], question_of("u4")
    given = GivenItems(sequence=best.sequence, now_ms=10_000, item_ids=ITEM_IDS[3:9])

    async def ask(inference: Inference) -> Any:
        return await asyncio.gather(inference.answer(replica, given), inference.answer(replica, best))

    (rows, listed), _ = asked_while_busy(replica, 8, ask)
    assert [item_id for item_id, _ in listed] == expected(replica, "u4")
    wanted = replica.recommender.rank(best.sequence, now_ms=10_000, item_ids=ITEM_IDS[3:9])
    for row, wanted_row in zip(rows, wanted, strict=True):
        assert row == pytest.approx(wanted_row, abs=1e-5)


def test_a_batch_of_none_is_refused() -> None:
    """Nothing would ever be answered."""
    with pytest.raises(ValueError, match="max_batch must be >= 1, got 0"):
        Inference(cache_bytes=0, max_batch=0)

"""The one thread that the model computes in: what waits when it becomes free is answered together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prometheus_client import Histogram

from deploy.answer_times import BUCKETS_SECONDS
from deploy.follower import Replica
from model.answering import Answering
from model.question import Question, Scores

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Waiting:
    replica: Replica
    question: Question[Any]
    answer: Future[Any] = field(default_factory=Future)


class Inference:
    """Takes a replica and a question, gives scores; no question waits for others to come along.

    A batch is of one replica and of at most `max_batch` questions. Where one fails, those of its batch are asked one by
    one, and it fails alone. Who is cancelled before a batch begins is left out of it. Of users, at most `cache_bytes`
    are kept (see `UserCaches`). To be used from one event loop.
    """

    def __init__(self, *, cache_bytes: int, max_batch: int) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch must be >= 1, got {max_batch}")
        self.max_batch = max_batch
        self.num_batches = 0
        self.num_questions = 0
        """Questions in all batches."""
        self.seconds = Histogram(
            "headwater_inference_seconds",
            "Time that the model computes, for a batch of requests, without the wait for its turn.",
            buckets=BUCKETS_SECONDS,
            registry=None,
        )
        self._answering = Answering(cache_bytes)
        self.caches = self._answering.caches
        """To be read only, but by the thread."""
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, "inference")

    async def answer(self, replica: Replica, question: Question[Scores]) -> Scores:
        """The replica's answer; raises what the model raises."""
        waiting = _Waiting(replica, question)
        self._waiting.append(waiting)
        # The first of these calls to come on answers for the others, which find less or nothing left.
        self._thread.submit(self._answer_waiting)
        scores: Scores = await asyncio.wrap_future(waiting.answer)
        return scores

    async def compute(self, work: Callable[[], _Result]) -> _Result:
        """What `work` gives, computed when its turn comes."""

        def run() -> _Result:
            with self.seconds.time():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    def stop(self) -> None:
        """Answer what waits, and end the thread."""
        self._thread.shutdown()

    def _answer_waiting(self) -> None:
        batch = [waiting for waiting in self._next_batch() if waiting.answer.set_running_or_notify_cancel()]
        if batch:
            self.num_batches += 1
            self.num_questions += len(batch)
            with self.seconds.time():
                self._answer(batch)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self.max_batch:
            if batch and self._waiting[0].replica is not batch[0].replica:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            answers = self._answering.answer(batch[0].replica.recommender, [waiting.question for waiting in batch])
        except Exception as error:  # whatever it is, whoever asks has to be told
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
            else:
                for waiting in batch:
                    self._answer([waiting])
            return
        for waiting, scores in zip(batch, answers, strict=True):
            waiting.answer.set_result(scores)

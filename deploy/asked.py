"""What is asked of one replica about one user: the model's part of an answer."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from deploy.canary import Side
from deploy.inference import Inference
from deploy.sequence_columns import SequenceColumns
from model.item_score import ItemScore
from model.question import BestItems, GivenItems
from model.sequence import UserSequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One user, as of one moment, and the one replica that answers; a `slate.Model`."""

    side: Side
    columns: SequenceColumns
    sequence: UserSequence
    now_ms: int
    """The stream's present: what is predicted for."""
    unavailable: Container[str]
    inference: Inference
    started: float
    """When it was asked, in `time.perf_counter`'s seconds."""

    async def best(self, count: int) -> list[tuple[str, float]]:
        """Items and their scores, best first, without those that the user acted on and those not available."""
        question = BestItems(sequence=self.sequence, now_ms=self.now_ms, k=count, unavailable=self.unavailable)
        return await self.inference.answer(self.side.replica, question)

    async def scores(self, item_ids: Sequence[str]) -> list[float]:
        """The score by which `best` is ordered, of these items."""
        return [score.total for score in await self.score_parts(self.sequence, item_ids)]

    async def score_parts(self, sequence: UserSequence, item_ids: Sequence[str]) -> list[ItemScore]:
        """What retrieval gives each item, were this the user's sequence."""
        recommender = self.side.replica.recommender
        return await self.inference.compute(lambda: recommender.scores(sequence, now_ms=self.now_ms, item_ids=item_ids))

    async def probabilities(self, item_ids: Sequence[str]) -> list[dict[str, float]]:
        """Probability of each action on each item."""
        question = GivenItems(sequence=self.sequence, now_ms=self.now_ms, item_ids=item_ids)
        return await self.inference.answer(self.side.replica, question)

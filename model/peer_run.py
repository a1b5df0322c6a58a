"""A data set through a peer under the learner's own protocol: same order, candidates, filter, rank rule and meter.

Shapes: Q targets, I items so far.
"""

import time
from collections.abc import Iterable, Sequence

import numpy as np

from model.batch import NewEvents, SequenceItems, encode_sequence, order_events
from model.candidates import leave_out_seen
from model.evaluation import (
    WARM_UP,
    EventRank,
    Histories,
    Interaction,
    PrequentialReport,
    Progress,
    check_shares,
    event_ranks,
    micro_batches,
    report_of,
)
from model.metrics import Floats
from model.peers.peer import Peer, Visit
from model.popularity import Popularity
from model.prequential import PrequentialMeter, Targets, candidate_ranks
from model.sequence import UserSequence
from model.settings import ModelSettings
from model.windows import EncodedSequence

BATCH_EVENTS = 128
"""Events of a micro-batch: as many as the learner's by default."""
_NO_FEATURES = ModelSettings(feature_rows=0)


def peer_run(
    peer: Peer,
    interactions: Iterable[Interaction],
    *,
    total: int,
    positive_index: int,
    freeze_after: float | None = None,
    warm_up: float = WARM_UP,
    progress: Progress | None = None,
    ranks: list[EventRank] | None = None,
) -> PrequentialReport:
    """Feed interactions, which are in the stream's order, through a fresh peer; see `model.evaluation.prequential_run`.

    `positive_index` is the bit of the action whose targets are a series of their own. AUC and normalized entropy are
    NaN, as peers give no odds; a step is one call of `learn`. Raises `ValueError` for shares outside [0, 1].
    """
    check_shares(warm_up=warm_up, freeze_after=freeze_after)
    run = _PeerRun(peer, positive_index)
    run.meter.count_from = int(warm_up * total)
    freeze_from = total + 1 if freeze_after is None else int(freeze_after * total)
    started = time.monotonic()
    for batch in micro_batches(interactions, BATCH_EVENTS, {freeze_from, run.meter.count_from}):
        first = run.num_events
        targets = run.feed(batch, learns=first < freeze_from)
        if ranks is not None:
            ranks += event_ranks(targets, batch, first)
        if progress is not None:
            progress(run.num_events, run.meter.figures())
    return report_of(
        run.meter,
        events=run.num_events,
        steps=run.num_steps,
        skipped_steps=0,
        seconds=time.monotonic() - started,
        ranks=ranks or [],
    )


class _PeerRun:
    """What the protocol keeps beside the peer."""

    def __init__(self, peer: Peer, positive_index: int) -> None:
        self.peer = peer
        self.positive_index = positive_index
        self.meter = PrequentialMeter()
        self.num_events = 0
        self.num_steps = 0
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._histories, self._popularity = Histories(), Popularity()
        # Row 0 is nobody's; a peer's items begin with 0.
        self._first_I = [np.iinfo(np.int64).max]
        """Number of the first event of each row."""

    def feed(self, batch: list[Interaction], *, learns: bool) -> Targets:
        """Score a micro-batch's targets, each before it is learned."""
        sequences = self._histories.extend(batch)
        events = order_events(sequences, self.num_events)
        for interaction, number in zip(batch, events.numbers.tolist(), strict=True):
            self._users.setdefault(interaction.user_id, len(self._users))
            if self._items.setdefault(interaction.item_id, 1 + len(self._items)) == len(self._first_I):
                self._first_I.append(number)
        encoded = [self._encode(sequence) for sequence in sequences]
        events.rows[:] = [self._items[interaction.item_id] for interaction in batch]
        events = events.select(events.is_target)
        targets = self._score(events, sequences, encoded, learns=learns)
        self.meter.update(targets)
        self.num_events += len(batch)
        self.meter.advance(self.num_events)
        return targets

    def _encode(self, sequence: UserSequence) -> EncodedSequence:
        rows = np.array([self._items[item_id] for item_id in sequence.item_ids], np.int64)
        return encode_sequence(sequence, SequenceItems(rows, rows), np.full(len(rows), -1), _NO_FEATURES)[0]

    def _score(
        self,
        events: NewEvents,
        sequences: Sequence[UserSequence],
        encoded: Sequence[EncodedSequence],
        *,
        learns: bool,
    ) -> Targets:
        num_rows = 1 + len(self._items)
        visits = [
            self._visit(events, place, sequences[owner], encoded[owner]) for place, owner in enumerate(events.owners)
        ]
        scores_QI = np.pad(self._peer_scores(visits, num_rows - 1, learns=learns), ((0, 0), (1, 0)))
        popular_QI = self._popularity.before_each(events.rows, num_rows)
        self._popularity.update(events.rows)
        candidates_QI = np.array(self._first_I) < events.numbers[:, None]
        repeat_Q = leave_out_seen(candidates_QI, events, encoded)
        return Targets(
            numbers=events.numbers,
            ranks=candidate_ranks(scores_QI, events.rows, candidates_QI),
            popularity_ranks=candidate_ranks(popular_QI, events.rows, candidates_QI),
            positive=(events.actions >> self.positive_index) & 1 == 1,
            repeat=repeat_Q,
        )

    def _visit(self, events: NewEvents, place: int, sequence: UserSequence, encoded: EncodedSequence) -> Visit:
        end = encoded.group_starts[events.indexes[place]]
        history = encoded.rows[:end][encoded.actions[:end] != 0]
        user = self._users[sequence.user_id]
        return Visit(int(events.numbers[place]), user, int(events.rows[place]) - 1, history - 1)

    def _peer_scores(self, visits: Sequence[Visit], num_items: int, *, learns: bool) -> Floats:
        """Scores of all visits, as many at a time as the peer takes, each time before they are learned."""
        scores_QI = np.zeros((len(visits), num_items))
        for start in range(0, len(visits), self.peer.batch_visits):
            part = visits[start : start + self.peer.batch_visits]
            scores_QI[start : start + len(part)] = self.peer.scores(part, num_items)
            if learns:
                self.peer.learn(part)
                self.num_steps += 1
        return scores_QI

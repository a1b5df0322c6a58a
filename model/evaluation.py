"""Prequential evaluation of a data set: its events in order, in micro-batches, through the learner's own step."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace

import numpy as np

from model.heartbeat import HeartbeatFigures, RankFigures
from model.online import OnlineLearner
from model.prequential import PrequentialFigures, PrequentialMeter, SeriesFigures, Targets
from model.sequence import NEW_ACTION, NEW_EXPOSURE, UserSequence
from model.user_features import UserFeature

WARM_UP = 0.1
"""Share of the events that is learned and not counted, unless another is asked for."""
HISTORY_EVENTS = 2_048
"""Newest events kept for each user; older ones are no context, and their items become candidates again."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """One event of a data set: an item was shown, and what the user did with it."""

    user_id: str
    item_id: str
    ts_ms: int
    actions: int
    """Bit mask over the model's actions; 0 is a bare exposure."""
    value: float = float("nan")
    group: int = -1
    """Events of one impression share a number; -1 for an event of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRank:
    """Rank of one target."""

    event: int
    """Number of the event in the stream, from 0."""
    user_id: str
    item_id: str
    rank: float
    """inf where the item was no candidate, NaN where its score was not finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrequentialReport:
    """Figures of a run; rates are at rank 10, over events after the warm-up."""

    events: int
    """All events, warm-up included."""
    warm_up_events: int
    """Events that were learned and not counted."""
    events_scored: int
    """Targets of the main series: first actions of a user on an item."""
    events_scored_last_quarter: int
    hit_rate: float
    ndcg: float
    mrr: float
    hit_rate_last_quarter: float
    popularity_hit_rate: float
    popularity_ndcg: float
    popularity_hit_rate_last_quarter: float
    auc: float
    """Of the positive action."""
    normalized_entropy: float
    events_ranked: int
    """Events that AUC and normalized entropy are over."""
    positives: SeriesFigures
    repeats: SeriesFigures
    fresh_items: RankFigures | None
    """On items less than an hour old, by event time; None for a peer, as the two below."""
    new_users: RankFigures | None
    """Of users that had not acted before."""
    drift_alarms: int | None
    non_finite: int
    steps: int
    skipped_steps: int
    seconds: float
    ranks: list[EventRank] = field(repr=False)
    """Of every target, warm-up included; empty unless asked for."""


UserFeatures = Mapping[str, Mapping[str, str | int | float | bool]]
Progress = Callable[[int, PrequentialFigures], None]
NOTHING_KNOWN: UserFeatures = {}


def prequential_run(
    learner: OnlineLearner,
    interactions: Iterable[Interaction],
    *,
    total: int,
    freeze_after: float | None = None,
    warm_up: float = WARM_UP,
    progress: Progress | None = None,
    ranks: list[EventRank] | None = None,
    user_features: UserFeatures = NOTHING_KNOWN,
) -> PrequentialReport:
    """Feed interactions, which are in the stream's order, through a fresh learner; see `model.prequential`.

    `total` is how many there are. Events before the share `warm_up` are learned and not counted; from the share
    `freeze_after` on nothing is learned. `progress` is called after each step with the number of events so far. The
    ranks of all targets are added to the list `ranks`. A learner that was restored goes on after the events that it has
    seen. Users' features are by user and name. Raises `ValueError` for shares outside [0, 1].
    """
    check_shares(warm_up=warm_up, freeze_after=freeze_after)
    learner.meter.count_from = learner.heartbeat.count_from = int(warm_up * total)
    freeze_from = total + 1 if freeze_after is None else int(freeze_after * total)
    started, histories, first = time.monotonic(), Histories(user_features=user_features), 0
    for batch in micro_batches(interactions, learner.learn_settings.batch_events, {freeze_from}):
        sequences = histories.extend(batch)
        if first >= learner.num_events:
            learner.frozen = learner.frozen or first >= freeze_from
            report = learner.step(sequences)
            if ranks is not None:
                ranks += event_ranks(report.targets, batch, first)
            if progress is not None:
                progress(learner.num_events, learner.meter.figures())
        first += len(batch)
    return report_of(
        learner.meter,
        heartbeat=learner.heartbeat.figures(),
        events=learner.num_events,
        steps=learner.num_steps,
        skipped_steps=learner.num_skipped,
        seconds=time.monotonic() - started,
        ranks=ranks or [],
    )


def check_shares(**shares: float | None) -> None:
    """Raise `ValueError` for a share outside [0, 1]."""
    for name, share in shares.items():
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {share}")


class Histories:
    """Newest events of every user, as the sequences that steps take.

    Users' features are by user and name, and as if told at the user's first event.
    """

    def __init__(self, num_events: int = HISTORY_EVENTS, user_features: UserFeatures = NOTHING_KNOWN) -> None:
        self.num_events = num_events
        self._user_features = user_features
        self._users: dict[str, list[Interaction]] = {}
        self._count = 0

    def extend(self, batch: list[Interaction]) -> list[UserSequence]:
        """Append a micro-batch; the sequence of each of its users, in which the batch's events are new."""
        orders: dict[str, list[int]] = {}
        for place, interaction in enumerate(batch):
            orders.setdefault(interaction.user_id, []).append(place)
        sequences = []
        for user_id, places in orders.items():
            history = self._users.setdefault(user_id, [])
            del history[: max(0, len(history) - self.num_events)]
            context = len(history)
            history += [self._grouped(batch[place], place) for place in places]
            told = self._user_features.get(user_id, {}).items()
            features = [UserFeature(history[0].ts_ms, 0, name, value) for name, value in told]
            sequences.append(replace(_sequence(user_id, history, context, places), features=features))
        self._count += len(batch)
        return sequences

    def _grouped(self, interaction: Interaction, place: int) -> Interaction:
        """The interaction with a group: one of its own where it came with none."""
        if interaction.group >= 0:
            return interaction
        own = -1 - (self._count + place)
        return Interaction(
            interaction.user_id,
            interaction.item_id,
            interaction.ts_ms,
            interaction.actions,
            interaction.value,
            own,
        )


def micro_batches(interactions: Iterable[Interaction], size: int, edges: Set[int]) -> Iterator[list[Interaction]]:
    """Micro-batches of `size`; one ends before each event whose number is an edge: all before it is learned there."""
    batch: list[Interaction] = []
    for number, interaction in enumerate(interactions):
        if batch and (len(batch) == size or number in edges):
            yield batch
            batch = []
        batch.append(interaction)
    if batch:
        yield batch


def _sequence(user_id: str, history: list[Interaction], context: int, places: list[int]) -> UserSequence:
    new = np.zeros(len(history), np.int64)
    order = np.zeros(len(history), np.int64)
    actions = np.array([event.actions for event in history], np.int64)
    new[context:] = np.where(actions[context:] != 0, NEW_EXPOSURE | NEW_ACTION, NEW_EXPOSURE)
    order[context:] = places
    return UserSequence(
        user_id=user_id,
        item_ids=[event.item_id for event in history],
        ts_ms=np.array([event.ts_ms for event in history], np.int64),
        actions=actions,
        values=np.array([event.value for event in history], np.float32),
        groups=np.array([event.group for event in history], np.int64),
        new=new,
        order=order,
    )


def event_ranks(targets: Targets, batch: list[Interaction], first: int) -> list[EventRank]:
    """Ranks of a micro-batch that begins with event `first`."""
    events = [batch[number - first] for number in targets.numbers.tolist()]
    columns = zip(targets.numbers.tolist(), events, targets.ranks.tolist(), strict=True)
    return [
        EventRank(event=number, user_id=event.user_id, item_id=event.item_id, rank=rank)
        for number, event, rank in columns
    ]


def report_of(
    meter: PrequentialMeter,
    *,
    heartbeat: HeartbeatFigures | None = None,
    events: int,
    steps: int,
    skipped_steps: int,
    seconds: float,
    ranks: list[EventRank],
) -> PrequentialReport:
    """What a meter, and a heartbeat where there is one, know at the end of a run."""
    figures = meter.figures()
    return PrequentialReport(
        events=events,
        warm_up_events=meter.count_from,
        events_scored=figures.main.events,
        events_scored_last_quarter=figures.last_quarter.events,
        hit_rate=figures.main.hit_rate,
        ndcg=figures.main.ndcg,
        mrr=figures.main.mrr,
        hit_rate_last_quarter=figures.last_quarter.hit_rate,
        popularity_hit_rate=figures.main.popularity_hit_rate,
        popularity_ndcg=figures.main.popularity_ndcg,
        popularity_hit_rate_last_quarter=figures.last_quarter.popularity_hit_rate,
        auc=figures.auc,
        normalized_entropy=figures.normalized_entropy,
        events_ranked=figures.ranked_events,
        positives=figures.positives,
        repeats=figures.repeats,
        fresh_items=heartbeat.total["fresh_items"] if heartbeat else None,
        new_users=heartbeat.total["new_users"] if heartbeat else None,
        drift_alarms=heartbeat.drift_alarms if heartbeat else None,
        non_finite=figures.non_finite,
        steps=steps,
        skipped_steps=skipped_steps,
        seconds=seconds,
        ranks=ranks,
    )

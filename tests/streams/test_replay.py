"""Replay: what a row becomes, and the pace at which rows leave."""

from dataclasses import replace

import numpy as np
import pytest

from streams.dataset import Dataset
from streams.events import Action, Event, Impression, check_event
from streams.replay import TICK_SECONDS, TRIAL_RATE, LearnerPosition, Pace, replay, row_events


def dataset_factory(num_rows: int = 3) -> Dataset:
    """Rows of one user a second apart; row 1 bears two actions, row 2 none."""
    masks = np.array([1, 5, 0] * num_rows)[:num_rows]
    values = np.array([4.5, np.nan, np.nan] * num_rows, np.float32)[:num_rows]
    return Dataset(
        name="made",
        user_ids=["ada"] * num_rows,
        item_ids=[f"i{row}" for row in range(num_rows)],
        ts_ms=np.arange(num_rows, dtype=np.int64) * 1_000,
        actions=masks.astype(np.int64),
        values=values,
        action_names=("like", "dislike", "rate"),
    )


class Sent:
    """A producer that keeps what it is given, with the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[Event] = []
        self.times: list[float] = []

    def send(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(self.now)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 6)
        assert self.now < 3_600, "the replay does not end"


def idle() -> LearnerPosition:
    """A learner that has learned all there is."""
    return LearnerPosition(0, 0.0, 0.0)


def test_a_row_is_an_impression_and_its_actions() -> None:
    """The join of actions and impressions hangs on the request id, the label on the action."""
    rows = dataset_factory()
    impression, like = row_events(rows, 0)
    assert impression == Impression(event_id="i0", request_id="r0", user_id="ada", ts_ms=0, items=["i0"])
    assert like == Action(
        event_id="a0.0", request_id="r0", user_id="ada", item_id="i0", ts_ms=0, action="like", value=4.5
    )
    actions = [event for event in row_events(rows, 1) if isinstance(event, Action)]
    assert [(event.action, event.value) for event in actions] == [("like", None), ("rate", None)]
    assert len(list(row_events(rows, 2))) == 1


def test_rows_that_were_shown_together_are_one_impression() -> None:
    """Slates would fall apart: each item of one would see the others' actions."""
    rows = replace(dataset_factory(5), groups=np.array([7, 7, 7, 8, 9]), ts_ms=np.array([0, 0, 0, 5, 6]))
    events = [list(row_events(rows, row)) for row in range(5)]
    shown = [event for each in events for event in each if isinstance(event, Impression)]
    assert [(event.event_id, event.items) for event in shown] == [
        ("i0", ["i0", "i1", "i2"]),
        ("i3", ["i3"]),
        ("i4", ["i4"]),
    ]
    acted = [[(event.item_id, event.request_id) for event in each if isinstance(event, Action)] for each in events]
    assert acted == [[("i0", "r0")], [("i1", "r0")] * 2, [], [("i3", "r3")], [("i4", "r4")] * 2]


def test_a_slate_that_is_cut_short_keeps_what_is_left() -> None:
    """A limit in the middle of a slate would name items whose rows are not sent."""
    rows = replace(dataset_factory(4), groups=np.array([0, 0, 0, 1]))
    (impression, _) = row_events(rows.head(2), 0)
    assert isinstance(impression, Impression)
    assert impression.items == ["i0", "i1"]


def test_events_of_a_row_are_valid_and_differ() -> None:
    """Events of equal ids would be taken for one another."""
    rows = dataset_factory(30)
    events = [event for row in range(30) for event in row_events(rows, row)]
    for event in events:
        check_event(event)
    assert len({event.event_id for event in events}) == len(events)
    assert events == [event for row in range(30) for event in row_events(rows, row)]


def test_every_row_is_sent_once_and_in_order() -> None:
    """A replay that skips or repeats rows measures another data set."""
    rows, sent = dataset_factory(50), Sent()
    before: list[int] = []
    replay(rows, sent, learner=idle, before_row=before.append, clock=sent.clock, sleep=sent.sleep)
    shown = [event.items[0] for event in sent.events if isinstance(event, Impression)]
    assert shown == rows.item_ids
    assert before == list(range(50))


@pytest.mark.parametrize("rate", [0.5, 1.0, 7.0, 200.0])
def test_a_fixed_rate_is_kept(rate: float) -> None:
    """A slow rate that never reaches one row would wait for ever."""
    rows, sent = dataset_factory(20), Sent()
    pace = Pace(rate=rate, least=rate, most=rate)
    replay(rows, sent, learner=idle, pace=pace, clock=sent.clock, sleep=sent.sleep)
    assert sent.now == pytest.approx(20 / rate, rel=0.1, abs=2 * TICK_SECONDS)


def test_nothing_is_sent_while_the_learner_is_away() -> None:
    """Events would pile up before a learner that restarts."""
    rows, sent = dataset_factory(2_000), Sent()

    def learner() -> LearnerPosition | None:
        return None if 1.0 <= sent.now < 5.0 else idle()

    replay(rows, sent, learner=learner, clock=sent.clock, sleep=sent.sleep)
    assert not [time for time in sent.times if 1.5 < time < 5.0]
    assert len([event for event in sent.events if isinstance(event, Impression)]) == 2_000
    assert [time for time in sent.times if time > 5.0]


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    """Credit saved up while the machine slept would flood the worker at once."""
    rows, sent = dataset_factory(1_000), Sent()
    pace = Pace(rate=100.0, least=100.0, most=100.0)
    naps = iter([TICK_SECONDS] * 20 + [60.0] + [TICK_SECONDS] * 10_000)
    replay(rows, sent, learner=idle, pace=pace, clock=sent.clock, sleep=lambda _: sent.sleep(next(naps)))
    impressions = [time for event, time in zip(sent.events, sent.times, strict=True) if isinstance(event, Impression)]
    assert max(impressions.count(time) for time in set(impressions)) <= 100


def paced(pace: Pace, seconds: int, *, behind_seconds: float, learned: float = 500.0, busy: float = 0.5) -> float:
    """The rate after so many seconds in each of which so much is learned, and the learner is busy for a part."""
    for second in range(seconds):
        pace.adjust(LearnerPosition(learned * second, behind_seconds, busy * second), float(second))
    return pace.rate


@pytest.mark.parametrize("busy", [0.5, 0.8, 1.0])
def test_the_pace_is_80_percent_of_what_the_learner_could_learn(busy: float) -> None:
    """With all that it could learn, events wait in line; with a share of what it does learn, fewer and fewer come."""
    assert paced(Pace(), 100, behind_seconds=0.3, busy=busy) == pytest.approx(0.8 * 500 / busy)
    assert paced(Pace(rate=10_000.0), 100, behind_seconds=1.0, busy=busy) == pytest.approx(0.8 * 500 / busy)


def test_the_pace_settles_where_a_learner_keeps_up() -> None:
    """A pace that is fed by what it sends would run away, or come to a stop."""
    pace, events, busy = Pace(), 0.0, 0.0
    for look in range(400):
        rate = pace.adjust(LearnerPosition(events, 0.3, busy), look / 4)
        events, busy = events + rate / 4, busy + rate / 4 / 1_000
    assert pace.rate == pytest.approx(800, rel=0.01)


def test_the_pace_rises_step_by_step() -> None:
    """One look at a learner that has just caught up would send a flood."""
    pace = Pace(rate=300.0)
    rates = [pace.adjust(LearnerPosition(9_000.0 * second, 0.1, second), float(second)) for second in range(4)]
    assert rates == pytest.approx([200, 230, 264.5, 304.175])


def test_a_learner_that_is_far_behind_gets_half() -> None:
    """What piled up while it stood still would never be worked off."""
    assert paced(Pace(), 100, behind_seconds=5.0, busy=1.0) == pytest.approx(200)


def test_a_learner_that_is_close_behind_gets_full_batches() -> None:
    """Small batches are slow to learn, slow learning sends fewer events, and these make smaller batches."""
    assert paced(Pace(), 100, behind_seconds=0.3, learned=50, busy=0.9) == TRIAL_RATE
    assert paced(Pace(), 100, behind_seconds=1.0, learned=50, busy=1.0) == pytest.approx(40)


def test_a_learner_that_was_restarted_does_not_upset_the_pace() -> None:
    """Its counters start at 0 again: events a second would be negative."""
    pace = Pace()
    before = paced(pace, 100, behind_seconds=0.3)
    assert pace.adjust(LearnerPosition(100, 0.3, 0.1), 100.0) == before
    assert pace.adjust(LearnerPosition(600, 0.3, 0.6), 101.0) == before


def test_the_pace_is_none_while_the_learner_is_away() -> None:
    """What came meanwhile must not count as learned in no time."""
    pace = Pace(rate=100.0)
    pace.adjust(LearnerPosition(0, 0.1, 0), 0.0)
    assert pace.adjust(None, 1.0) == 0
    assert pace.adjust(LearnerPosition(90_000, 0.1, 9), 1.1) == pytest.approx(132.25)
    assert pace.adjust(LearnerPosition(90_000, 5.0, 9), 2.0) == pytest.approx(152.0875)


def test_the_pace_stays_modest_while_nothing_is_learned() -> None:
    """With the worker away the learner is idle, not close behind: the whole set would be sent at once."""
    pace = Pace(rate=5_000.0)
    paced(pace, 9, behind_seconds=0.0, learned=5_000)
    for second in range(40):
        pace.adjust(LearnerPosition(1_000, 0.0, 1.0), float(second))
    assert pace.rate == TRIAL_RATE


def test_the_pace_keeps_its_bounds() -> None:
    """It would go to nothing during one long step, and take as long to come back."""
    pace = Pace(rate=30.0, least=20.0, most=40.0)
    for second in range(9):
        pace.adjust(LearnerPosition(0, 100.0, 1.0 * second), float(second))
    assert pace.rate == 20.0
    for second in range(99):
        pace.adjust(LearnerPosition(0, 0.0, 0.0), float(second))
    assert pace.rate == 40.0

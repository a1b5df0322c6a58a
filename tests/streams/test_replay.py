"""Replay: what a row becomes, and the pace at which rows leave."""

import numpy as np
import pytest

from streams.dataset import Dataset
from streams.events import Action, Event, Impression, check_event
from streams.replay import TICK_SECONDS, Pace, replay, row_events


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
    replay(rows, sent, behind=lambda: 0.0, before_row=before.append, clock=sent.clock, sleep=sent.sleep)
    shown = [event.items[0] for event in sent.events if isinstance(event, Impression)]
    assert shown == rows.item_ids
    assert before == list(range(50))


@pytest.mark.parametrize("rate", [0.5, 1.0, 7.0, 200.0])
def test_a_fixed_rate_is_kept(rate: float) -> None:
    """A slow rate that never reaches one row would wait for ever."""
    rows, sent = dataset_factory(20), Sent()
    pace = Pace(rate=rate, least=rate, most=rate)
    replay(rows, sent, behind=lambda: 0.0, pace=pace, clock=sent.clock, sleep=sent.sleep)
    assert sent.now == pytest.approx(20 / rate, rel=0.1, abs=2 * TICK_SECONDS)


def test_nothing_is_sent_while_the_learner_is_away() -> None:
    """Events would pile up before a learner that restarts."""
    rows, sent = dataset_factory(2_000), Sent()

    def behind() -> float | None:
        return None if 1.0 <= sent.now < 5.0 else 0.0

    replay(rows, sent, behind=behind, clock=sent.clock, sleep=sent.sleep)
    assert not [time for time in sent.times if 1.5 < time < 5.0]
    assert len([event for event in sent.events if isinstance(event, Impression)]) == 2_000
    assert [time for time in sent.times if time > 5.0]


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    """Credit saved up while the machine slept would flood the worker at once."""
    rows, sent = dataset_factory(1_000), Sent()
    pace = Pace(rate=100.0, least=100.0, most=100.0)
    naps = iter([TICK_SECONDS] * 20 + [60.0] + [TICK_SECONDS] * 10_000)
    replay(rows, sent, behind=lambda: 0.0, pace=pace, clock=sent.clock, sleep=lambda _: sent.sleep(next(naps)))
    impressions = [time for event, time in zip(sent.events, sent.times, strict=True) if isinstance(event, Impression)]
    assert max(impressions.count(time) for time in set(impressions)) <= 100


def test_the_pace_rises_while_the_learner_is_close_and_falls_when_it_is_not() -> None:
    """A pace that only rises drowns the learner; one that only falls never ends."""
    pace = Pace(rate=100.0)
    assert pace.adjust(0.5) == pytest.approx(110)
    assert pace.adjust(1.5) == pytest.approx(110)
    assert pace.adjust(2.5) == pytest.approx(73.7)
    assert pace.adjust(None) == 0
    assert pace.adjust(0.5) == pytest.approx(81.07)


def test_the_pace_keeps_its_bounds() -> None:
    """It would go to nothing during one long step, and take as long to come back."""
    pace = Pace(rate=30.0, least=20.0, most=40.0)
    for _ in range(9):
        pace.adjust(100.0)
    assert pace.rate == 20.0
    for _ in range(99):
        pace.adjust(0.0)
    assert pace.rate == 40.0

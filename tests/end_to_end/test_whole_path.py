"""The whole path with real processes and real brokers."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.client import send_action
from streams.broken import broken_records
from streams.dataset import Dataset
from streams.items import Item
from streams.producer import EventProducer
from streams.replay import row_events
from streams.replay_process import BrokenSlipper, publish_items
from tests.brokers import Broker, wait_until
from tests.end_to_end.installation import Installation, fresh_settings

ACTIONS = ("like", "dislike", "rate")
BROKEN = 28
KILLS = (("worker",), ("learn",), ("worker", "learn")) * 3
BURST = 20
"""Rows that are sent at once, ten times a second."""
ROWS = 40_000
"""More than are sent before the last process was killed."""


def circle_dataset() -> Dataset:
    """Users who walk the items in a circle, now and then jumping."""
    random = np.random.default_rng(3)
    users, items = 40, 60
    place = random.integers(0, items, users)
    user_ids, item_ids = [], []
    for _ in range(ROWS):
        user = int(random.integers(users))
        place[user] = (place[user] + 1) % items if random.random() < 0.9 else random.integers(items)
        user_ids.append(f"user {user}/é")
        item_ids.append(f"item {place[user]}")
    return Dataset(
        name="circle",
        user_ids=user_ids,
        item_ids=item_ids,
        ts_ms=np.arange(ROWS, dtype=np.int64) * 60_000 + 1_000_000_000_000,
        actions=1 << random.integers(0, len(ACTIONS), ROWS),
        values=np.full(ROWS, np.nan, np.float32),
        action_names=ACTIONS,
        items={f"item {n}": Item(item_id=f"item {n}", title=f"Title {n}") for n in range(items)},
    )


def bursts(dataset: Dataset, installation: Installation) -> Iterator[int]:
    """Send the rows of a data set, broken records among them; yields the number of rows sent after each burst."""
    settings = installation.settings
    slip = BrokenSlipper(settings.kafka, settings.topics, BROKEN, 1_000)
    with EventProducer(settings.kafka.bootstrap_servers, topic=settings.topics.events) as producer:
        for row in range(len(dataset)):
            slip.before_row(row)
            for event in row_events(dataset, row):
                producer.send(event)
            if row % BURST == BURST - 1:
                yield row + 1
                time.sleep(0.1)
    slip.close()


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_every_record_is_accounted_for_whatever_is_killed(broker: Broker, tmp_path: Path) -> None:
    """A record lost, doubled or learned twice after kill -9 of worker, learner or both in mid-stream."""
    settings = fresh_settings(broker, tmp_path, ACTIONS)
    dataset = circle_dataset()
    with Installation(settings, tmp_path) as installation:
        publish_items(settings.kafka, settings.topics, dataset.items)
        kills, rows, waited = list(KILLS), 0, 0
        for rows in bursts(dataset, installation):
            waited += 1
            installation.supervisor.tend()
            if waited >= 10 and kills and installation.is_up(*kills[0]):
                installation.kill(*kills.pop(0))
                waited = 0
            if not kills and rows >= 1_000 and waited >= 30:
                break
        wait_until("all are up again", lambda: installation.is_up("worker", "learn"))
        report = installation.verify()
        assert not kills
        assert report.findings == dict.fromkeys(report.findings, 0)
        assert (report.impressions, report.events) == (rows, 2 * rows)
        causes = [cause for _, _, cause in broken_records(0, BROKEN)]
        assert report.dead_letters_by_cause == {cause: causes.count(cause) for cause in sorted(set(causes))}
        assert installation.supervisor.restarts() == 12


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_what_a_user_does_changes_the_answer_and_reaches_the_weights(broker: Broker, tmp_path: Path) -> None:
    """A click that is lost on its way to the list, or answers that never come from newer weights."""
    settings = fresh_settings(broker, tmp_path, ACTIONS)
    dataset = circle_dataset()
    with Installation(settings, tmp_path) as installation:
        client = installation.client
        publish_items(settings.kafka, settings.topics, dataset.items)
        for rows in bursts(dataset, installation):
            installation.supervisor.tend()
            if rows >= 1_000:
                break
        wait_until("a model answers", lambda: _answers(installation))
        before = client.recommend("newcomer", 10)
        assert all(item.title.startswith("Title ") for item in before.items)
        liked = before.items[0].item_id
        sequence = send_action(client, settings.kafka, settings.topics, "newcomer", liked, "like")
        assert [(event.item_id, event.actions) for event in sequence.events] == [(liked, ["like"])]
        after = client.recommend("newcomer", 10)
        assert liked not in [item.item_id for item in after.items]
        partition, offset = str(sequence.partition), sequence.applied
        wait_until("the like is in the weights", lambda: client.health().learned.get(partition, -1) >= offset)
        assert client.recommend("newcomer", 10).model_version != before.model_version
        assert installation.verify().is_exact


def _answers(installation: Installation) -> bool:
    installation.supervisor.tend()
    return installation.client.is_ready()

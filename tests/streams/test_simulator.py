"""The simulator: the same stream for the same settings, and in it what its world says."""

import hashlib
from collections import Counter
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
import pytest

from storage.errors import SetupError
from streams.dataset import Dataset
from streams.simulated_world import START_MS, Asked
from streams.simulator import Simulator
from streams.simulator_settings import DAY_MS, SimulatorSettings

SETTINGS = SimulatorSettings(num_requests=2_000, num_users=60, num_items=120, num_categories=8, days=20, life_days=8)


def digest(stream: Dataset) -> str:
    """Tells a stream from every other, its items and groups included."""
    items = [(item.item_id, item.title, item.categories, item.ts_ms) for item in stream.items.values()]
    told = hashlib.sha256(repr((stream.user_ids, stream.item_ids, stream.drifts_ms, items)).encode())
    assert stream.groups is not None
    for column in (stream.ts_ms, stream.actions, stream.values, stream.groups):
        told.update(column.tobytes())
    return told.hexdigest()


def numbers(ids: list[str]) -> np.ndarray:
    """Numbers of users or items."""
    return np.array([int(each[1:]) for each in ids])


def asked_rows(stream: Dataset) -> tuple[Asked, np.ndarray]:
    """Each row as a request for its own item, [N] and [N, 1]."""
    return Asked(numbers(stream.user_ids), stream.ts_ms), numbers(stream.item_ids)[:, None]


def places(stream: Dataset) -> np.ndarray:
    """Place of each row in its slate, from 0."""
    assert stream.groups is not None
    return np.concatenate([np.arange(len(list(rows))) for _, rows in groupby(stream.groups.tolist())])


def test_a_stream_is_the_one_that_was_measured() -> None:
    """Every figure on the simulator is of this very stream; a change of it is a change of all of them."""
    stream = Simulator(replace(SETTINGS, num_requests=100)).dataset()
    assert (len(stream), int((stream.actions != 0).sum())) == (800, 375)
    assert digest(stream) == "3069ecc011bfa10ca6ecb442840a7cbf3f53c4fd2dfc42c2b07249643c9c1531"


def test_a_stream_follows_from_its_settings_alone() -> None:
    """What was made before, or how often, must not show."""
    short = replace(SETTINGS, num_requests=100)
    simulator = Simulator(short)
    stream = digest(simulator.dataset())
    assert stream == digest(simulator.dataset()) == digest(Simulator(short).dataset())
    assert stream != digest(Simulator(replace(short, seed=1)).dataset())


def test_only_items_that_are_born_and_not_dead_are_shown() -> None:
    """A living vocabulary would be measured on a dead one."""
    simulator = Simulator(SETTINGS)
    stream, world = simulator.dataset(), simulator.world
    items = numbers(stream.item_ids)
    assert (world.births_ms_I[items] <= stream.ts_ms).all()
    assert (stream.ts_ms < world.deaths_ms_I[items]).all()
    assert (world.deaths_ms_I < stream.ts_ms[-1]).sum() > SETTINGS.num_items


def test_items_are_born_as_fast_as_they_die() -> None:
    """The catalogue would run empty, or grow."""
    simulator = Simulator(SETTINGS)
    world, days = simulator.world, np.arange(1, 20)
    asked = Asked(np.zeros(len(days), np.int64), START_MS + days * DAY_MS)
    every = np.broadcast_to(np.arange(len(world.births_ms_I)), (len(days), len(world.births_ms_I)))
    there = world.there(asked, every).sum(1)
    assert there.mean() == pytest.approx(SETTINGS.num_items, rel=0.15)
    assert there.min() > 0.7 * SETTINGS.num_items
    born = world.births_ms_I > START_MS
    assert born.sum() == SETTINGS.num_births == 300
    shown = np.unique(numbers(simulator.dataset().item_ids))
    assert born[shown].sum() > 0.9 * SETTINGS.num_births


def test_an_item_s_record_tells_category_and_birth() -> None:
    """Content is all that is known of the newborn."""
    simulator = Simulator(SETTINGS)
    items = simulator.dataset().items
    assert len(items) == SETTINGS.num_items + SETTINGS.num_births
    vectors, categories = simulator.world.vectors_ID, simulator.world.categories_I
    cosines = vectors @ vectors.T
    same = categories[:, None] == categories
    assert cosines[same].mean() > cosines[~same].mean() + 0.4
    for number, item in enumerate(items.values()):
        assert item.categories == (f"category {categories[number]}",)
        assert item.ts_ms == simulator.world.births_ms_I[number]


def test_a_slate_is_a_group_of_different_items_shown_to_one_user_at_once() -> None:
    """A prediction would see its neighbours, or none would be an impression."""
    stream = Simulator(SETTINGS).dataset()
    assert stream.groups is not None
    rows = list(zip(stream.groups.tolist(), stream.user_ids, stream.ts_ms.tolist(), stream.item_ids, strict=True))
    slates = [list(slate) for _, slate in groupby(rows, key=lambda row: row[0])]
    assert [slate[0][0] for slate in slates] == list(range(SETTINGS.num_requests))
    for slate in slates:
        assert len({row[1:3] for row in slate}) == 1
        assert len({row[3] for row in slate}) == len(slate) == SETTINGS.slate_size
    times = [slate[0][2] for slate in slates]
    assert all(earlier < later for earlier, later in pairwise(times))


@pytest.mark.parametrize("num_items", [120, 20])
def test_what_was_clicked_on_is_not_shown_to_its_user_again(num_items: int) -> None:
    """Repeats would be a series of their own, and the main one empty."""
    stream = Simulator(replace(SETTINGS, num_items=num_items)).dataset()
    clicked = set()
    for user, item, actions in zip(stream.user_ids, stream.item_ids, stream.actions.tolist(), strict=True):
        assert (user, item) not in clicked
        if actions:
            clicked.add((user, item))
    assert max(Counter(user for user, _ in clicked).values()) > num_items / 2


def test_where_all_was_clicked_on_slates_are_shorter() -> None:
    """Dead items, or those of before, would fill them."""
    simulator = Simulator(replace(SETTINGS, num_items=20))
    stream = simulator.dataset()
    assert stream.groups is not None
    assert np.bincount(stream.groups).min() < SETTINGS.slate_size
    assert (stream.ts_ms < simulator.world.deaths_ms_I[numbers(stream.item_ids)]).all()


def test_a_stream_that_shows_nothing_is_said() -> None:
    """An empty data set ends in a division by zero elsewhere."""
    short = SimulatorSettings(
        seed=16, num_requests=2, slate_size=1, num_items=1, days=2, life_days=1, num_drifts=0
    )  # a seed of which both items die before anyone asks
    with pytest.raises(SetupError, match="simulator has no rows"):
        Simulator(short).dataset()


@pytest.mark.parametrize("bias", [0.0, 0.5, 1.0])
def test_clicks_fall_with_the_place_as_the_bias_says(bias: float) -> None:
    """Without a bias there is nothing to learn of places; a wrong one is no position-based model."""
    simulator = Simulator(replace(SETTINGS, num_requests=4_000, position_bias=bias))
    stream = simulator.dataset()
    log_odds = simulator.world.click_log_odds(*asked_rows(stream))[:, 0]
    expected = np.bincount(places(stream), 1 / (1 + np.exp(-log_odds)))
    clicks = np.bincount(places(stream), stream.actions != 0)
    looked_at = expected * np.arange(1.0, 9.0) ** -bias
    assert (np.abs(clicks - looked_at) < 4 * np.sqrt(looked_at)).all()


def test_after_a_drift_clicks_follow_new_tastes() -> None:
    """A stream without drift, called one with it, shows nothing."""
    simulator = Simulator(replace(SETTINGS, num_drifts=1, drift_share=1.0))
    stream, world = simulator.dataset(), simulator.world
    asked, items_N1 = asked_rows(stream)
    before = Asked(asked.users_R, np.full(len(stream), START_MS))
    (drift,) = stream.drift_rows
    clicked, late = stream.actions != 0, np.arange(len(stream)) >= drift
    old, now = world.matches(before, items_N1)[:, 0], world.matches(asked, items_N1)[:, 0]
    assert old[clicked & ~late].mean() > 0.4
    assert old[clicked & late].mean() < 0.5 * old[clicked & ~late].mean()
    assert now[clicked & late].mean() == pytest.approx(now[clicked & ~late].mean(), abs=0.05)
    assert stream.drifts_ms == (START_MS + SETTINGS.duration_ms // 2,)


def test_a_drift_concerns_the_share_that_is_asked_for() -> None:
    """All of the tastes, or none, would be another experiment."""
    world = Simulator(replace(SETTINGS, num_users=1_000, num_drifts=2, drift_share=0.3)).world
    moved_PU = (world.tastes_PUD[1:] != world.tastes_PUD[:-1]).any(-1)
    moved_PI = world.appeals_PI[1:] != world.appeals_PI[:-1]
    assert moved_PU.mean(1) == pytest.approx([0.3, 0.3], abs=0.05)
    assert moved_PI.mean(1) == pytest.approx([0.3, 0.3], abs=0.08)


def test_likes_are_of_clicks_and_only_actions_have_seconds() -> None:
    """An exposure with a value would be taken for an action."""
    stream = Simulator(SETTINGS).dataset()
    assert set(np.unique(stream.actions).tolist()) == {0, 1, 3}
    assert (np.isnan(stream.values) == (stream.actions == 0)).all()
    assert stream.action_names == ("click", "like")
    liked = stream.values[stream.actions == 3].mean()
    assert 0 < np.nanmin(stream.values) < stream.values[stream.actions == 1].mean() < liked

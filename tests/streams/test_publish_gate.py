"""Versions that servers should not have: written, and passed over."""

import logging
from pathlib import Path

import numpy as np
import pytest

from model.online import OnlineLearner
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.learned_model import LearnedModel
from streams.publish_gate import PublishGate
from tests.streams.learner_bench import LEARN, MODEL, BenchFactory, the_log
from tests.streams.made_samples import TOPIC

WELL = {"items.weight": np.ones((2, 2), np.float32), "items.period": np.array([1, 2])}


def figures(events: int, hit_rate: float, window: int = 1_000) -> dict[str, float]:
    return {"events": events, "window_events_all": min(events, window), "window_hit_rate_all": hit_rate}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_an_objection_whatever_the_settings(value: float) -> None:
    """Scores of NaN have no order: every answer would be a list of anything."""
    spoiled = WELL | {"dense.bias": np.array([0.0, value], np.float32)}
    assert PublishGate(0).objection(spoiled, figures(10, 0.1)) == "dense.bias holds values that are not finite"
    assert PublishGate(0).objection(WELL, figures(10, 0.1)) == ""


def test_a_fall_beyond_chance_is_an_objection_until_the_hit_rate_is_back() -> None:
    """A model that has unlearned what it knew would be served because it is the newest."""
    gate = PublishGate(4)
    for events in range(0, 5_000, 500):
        assert gate.objection(WELL, figures(events, 0.30)) == ""
    # 4 standard errors of the difference of two shares of 1,000.
    assert gate.objection(WELL, figures(6_000, 0.21)) == (
        "the hit rate over the last 1,000 targets fell from 0.3000 to 0.2100, by more than 4 standard errors (0.0780)"
    )
    for events in range(6_500, 20_000, 500):
        assert "fell from 0.3000 to 0.2100" in gate.objection(WELL, figures(events, 0.21))
    assert gate.objection(WELL, figures(20_000, 0.23)) == ""


def test_a_slow_fall_and_few_targets_are_no_objection() -> None:
    """A learner that has just begun, or a stream that becomes harder day by day, must go on being served."""
    gate, hit_rate = PublishGate(4), 0.30
    for events in range(0, 50_000, 500):
        hit_rate *= 0.99
        assert gate.objection(WELL, figures(events, hit_rate)) == ""
    young = PublishGate(4)
    for events, rate in ((0, float("nan")), (10, 0.5), (20, 0.0), (40, 0.0)):
        assert young.objection(WELL, figures(events, rate, window=10)) == ""


def test_without_sigmas_no_fall_is_an_objection() -> None:
    """A drifting world makes every model foresee less, and the older one least."""
    gate = PublishGate(0)
    for events, hit_rate in ((5_000, 0.5), (50_000, 0.0)):
        assert gate.objection(WELL, figures(events, hit_rate)) == ""


def test_a_version_that_is_held_back_is_written_and_the_next_good_one_is_served(
    bench_factory: BenchFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers must neither load it nor wait for ever; who looks for the cause must find it."""
    bench, state = bench_factory(the_log(100)), OnlineLearner.state
    spoiled = {2, 3}

    def spoil(learner: OnlineLearner) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        model, trainer = state(learner)
        if process.model.version in spoiled:
            model["items.weight"][1, 0] = np.nan
        return model, trainer

    process = bench.learner()
    monkeypatch.setattr(OnlineLearner, "state", spoil)
    pointers: list[int] = []
    publish = bench.store.publish

    def publish_and_look(*arguments: object) -> object:
        manifest = publish(*arguments)  # type: ignore[arg-type]  # what the learner gives
        pointer = bench.store.latest()
        assert pointer is not None
        pointers.append(pointer.version)
        return manifest

    monkeypatch.setattr(bench.store, "publish", publish_and_look)
    with caplog.at_level(logging.ERROR, "streams.learner"):
        process.run()
    assert pointers[:5] == [1, 1, 1, 4, 5]
    reason = "items.weight holds values that are not finite"
    run_id = process.model.run_id
    assert bench.store.manifest(run_id, 3).held_back == reason
    assert bench.store.manifest(run_id, 4).base_version in (1, None)
    assert [record.getMessage() for record in caplog.records] == [
        f"{run_id}/v{version} is held back: {reason}" for version in (2, 3)
    ]
    value = process.metrics.registry.get_sample_value
    assert value("headwater_versions_held_back_total") == 2
    assert value("headwater_versions_published_total") == len(pointers) - 2
    assert value("headwater_snapshot_version") == pointers[-1]


def test_a_learner_goes_on_from_the_last_version_that_was_not_held_back(tmp_path: Path) -> None:
    """A restart is the way out of spoiled weights; the numbers of what was held back are taken."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    opened = LearnedModel.open(store, MODEL, LEARN, {TOPIC: "t1"})
    opened.cut({}, {})()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(opened.gate, "objection", lambda *_: "bad")
        opened.cut({}, {})()
    assert store.versions(opened.run_id) == [1, 2]
    again = LearnedModel.open(SnapshotStore(store.settings), MODEL, LEARN, {TOPIC: "t1"})
    assert (again.run_id, again.version) == (opened.run_id, 2)
    assert again.cut({}, {})().version == 3
    pointer = store.latest()
    assert pointer is not None
    assert pointer.version == 3

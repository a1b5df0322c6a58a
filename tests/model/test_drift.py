import numpy as np

from model.drift import PageHinkley


def hits(rate: float, count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(count) < rate).astype(np.float64)


def test_a_fall_to_half_raises_one_alarm_and_what_is_steady_or_rises_none() -> None:
    """A learner whose hit rate fell would go on without a word; one that cries wolf is not listened to."""
    drift = PageHinkley()
    drift.update(hits(0.1, 10_000))
    drift.update(hits(0.2, 20_000, 1))
    assert drift.alarms == 0
    drift.update(hits(0.08, 1_500, 2))
    assert drift.alarms == 1
    drift.update(hits(0.08, 20_000, 3))
    assert drift.alarms == 1


def test_values_one_by_one_raise_what_they_raise_together_and_a_restart_changes_nothing() -> None:
    """Alarms would follow from how the stream was cut."""
    values = np.concatenate([hits(0.3, 2_000), hits(0.1, 2_000), hits(0.0, 2_000)])
    together, apart = PageHinkley(), PageHinkley()
    together.update(values)
    for value in values:
        restored = PageHinkley()
        restored.load(apart.state())
        apart = restored
        apart.update(np.array([value]))
    assert together.alarms == 2
    assert apart.state()["drift.state"].tobytes() == together.state()["drift.state"].tobytes()

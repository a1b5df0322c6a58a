"""Settings of the simulator, and how the name of a data set says them."""

import math
from pathlib import Path
from typing import Any

import pytest

from streams.datasets import load_dataset
from streams.simulator_settings import SimulatorSettings, read_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("num_requests", 0),
        ("slate_size", 0),
        ("num_users", 0),
        ("num_items", 7),
        ("num_categories", 1),
        ("days", 0.0),
        ("days", math.nan),
        ("days", math.inf),
        ("days", 1e-4),
        ("life_days", 0.0),
        ("life_days", 1e-320),
        ("life_days", math.nan),
        ("num_drifts", -1),
        ("num_drifts", 12_500),
        ("drift_share", 1.01),
        ("position_bias", -0.1),
        ("position_bias", math.inf),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, value: Any) -> None:
    """They would end in an error of numpy, or in a stream that is another one than asked for."""
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got {value}"):
        SimulatorSettings(**{name: value})


def test_births_and_gaps_follow_from_the_settings() -> None:
    """Items would run out, or requests pile up at the end."""
    settings = SimulatorSettings(num_requests=1_000, days=10, num_items=50, life_days=5)
    assert (settings.num_births, settings.gap_ms, settings.duration_ms) == (100, 864_000, 864_000_000)


def test_a_name_says_settings() -> None:
    """Whoever types two settings gets both, and the defaults of the others."""
    assert read_settings("") == SimulatorSettings()
    assert read_settings("users=7,drift_share=.25,slate_size=3") == SimulatorSettings(
        num_users=7, drift_share=0.25, slate_size=3
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drift=4", "unknown setting of the simulator: 'drift'; did you mean drifts?"),
        ("num_users=4", "did you mean users?"),
        ("seed", "seed must be an integer, as in simulator:seed=3, got ''"),
        ("seed=x", "seed must be an integer, as in simulator:seed=3, got 'x'"),
        ("users=2.5", "users must be an integer, as in simulator:users=3, got '2.5'"),
        ("days=long", "days must be a number, as in simulator:days=3"),
        ("seed=1,", "unknown setting of the simulator: ''"),
        ("days=-1", "days must be at least a millisecond for each of 12500 requests, got -1"),
    ],
)
def test_a_name_with_a_mistake_says_which(text: str, said: str) -> None:
    """A setting that is passed over is an experiment that was not made."""
    with pytest.raises(ValueError, match=said):
        read_settings(text)


def test_the_simulator_is_a_data_set_by_name(tmp_path: Path) -> None:
    """It is to be had wherever a data set is named."""
    stream = load_dataset("simulator:requests=40,users=5,slate_size=3,drifts=1", cache=tmp_path)
    assert (stream.name, len(stream), len(set(stream.user_ids))) == ("simulator", 120, 5)
    assert stream.drift_rows == [60]
    assert len(load_dataset("simulator:requests=40,drifts=1", cache=tmp_path).items) == 800

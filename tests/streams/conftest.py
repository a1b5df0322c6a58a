"""Fixtures of the tests of streams."""

from itertools import count
from pathlib import Path

import pytest

from tests.streams.learner_bench import Bench, BenchFactory, Clock


@pytest.fixture
def bench_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchFactory:
    """Makes benches, each with a store of its own."""
    clock = Clock()
    monkeypatch.setattr("streams.learner.time", clock)
    folders = (tmp_path / str(number) for number in count())
    return lambda log: Bench(next(folders), log, clock)

"""Time worked."""

import pytest

from streams import busy_time
from streams.busy_time import BusyTime


class Clocks:
    """Times that a test sets."""

    def __init__(self) -> None:
        self.now = self.computed = 0.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.computed


def test_what_was_waited_is_not_worked_but_what_was_computed_meanwhile_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner with nothing to do would look like a slow one, or one that only unpacks like a fast one."""
    clocks = Clocks()
    monkeypatch.setattr(busy_time, "time", clocks)
    busy = BusyTime()
    clocks.now = 2.0
    with busy.waiting():
        clocks.now, clocks.computed = 7.0, 1.5
    clocks.now = 8.0
    assert busy.take() == 4.5
    clocks.now = 9.0
    assert busy.take() == 1.0


def test_a_wait_that_fails_is_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away would make the learner look slow."""
    clocks = Clocks()
    monkeypatch.setattr(busy_time, "time", clocks)
    busy = BusyTime()

    def fail() -> None:
        clocks.now = 5.0
        raise OSError("away")

    with pytest.raises(OSError, match="away"), busy.waiting():
        fail()
    assert busy.take() == 0.0

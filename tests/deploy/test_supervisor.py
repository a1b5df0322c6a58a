"""Processes of one machine: restarted with backoff, given up on in a crash loop, stopped in reverse order."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import supervisor as module
from deploy.supervisor import Managed, Supervisor, headwater_command
from storage.errors import SetupError

LONG_ENOUGH = 20.0
"""Within so many seconds a small process has done what it does."""


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", code]


SLEEP = "print('up', flush=True); import time; time.sleep(600)"


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.stop()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    made = Clock()
    monkeypatch.setattr("deploy.supervisor.time.monotonic", made.monotonic)
    return made


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def wait_ended(process: Managed) -> None:
    assert process._process is not None
    process._process.wait(LONG_ENOUGH)


def wait_for(log: Path, words: str) -> None:
    for _ in range(int(LONG_ENOUGH / 0.01)):
        if log.exists() and words in log.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"{words} is not in {log}")


def test_a_crashed_process_is_restarted_after_a_backoff_that_doubles(
    supervisor: Supervisor, tmp_path: Path, clock: Clock
) -> None:
    """A broker that is away for a minute would be asked a thousand times, or never again."""
    process = supervisor.start(Managed("worker", python("raise SystemExit(1)"), tmp_path / "log"))
    for crash, backoff in enumerate([0.25, 0.5, 1.0, 2.0, 4.0]):
        wait_ended(process)
        supervisor.tend()
        clock.now += backoff - 0.01
        supervisor.tend()
        assert process.restarts == crash
        clock.now += 0.02
        supervisor.tend()
        assert process.restarts == crash + 1
    assert supervisor.restarts() == 5


def test_a_killed_process_comes_back_with_another_pid(supervisor: Supervisor, tmp_path: Path, clock: Clock) -> None:
    """kill -9 of any process must heal by itself."""
    process = supervisor.start(Managed("worker", python(SLEEP), tmp_path / "log"))
    former = process.pid
    assert process._process is not None
    process._process.kill()
    wait_ended(process)
    assert (process.pid, process.exit_code) == (None, -signal.SIGKILL)
    supervisor.tend()
    clock.now += 1
    supervisor.tend()
    assert process.pid not in (None, former)
    assert process.exit_code is None


def test_a_crash_loop_ends_with_the_log_s_last_words(
    supervisor: Supervisor, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot run would be restarted for ever, and nobody be told why."""
    monkeypatch.setattr(module, "MAX_CRASHES", 2)
    code = "import sys; sys.exit('first\\nno such column')"
    process = supervisor.start(Managed("learner", python(code), tmp_path / "log"))
    for _ in range(2):
        wait_ended(process)
        supervisor.tend()
        clock.now += 10
        supervisor.tend()
    wait_ended(process)
    with pytest.raises(SetupError) as raised:
        supervisor.tend()
    log = tmp_path / "log"
    assert str(raised.value) == f"learner ended with exit code 1; its last words: no such column (see {log})"
    assert log.read_text().count("first") == 3


def test_a_steady_time_makes_crashes_forgotten(
    supervisor: Supervisor, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One crash a day for a week is no crash loop."""
    monkeypatch.setattr(module, "MAX_CRASHES", 1)
    process = supervisor.start(Managed("worker", python("raise SystemExit(1)"), tmp_path / "log"))
    for _ in range(4):
        wait_ended(process)
        clock.now += module.STEADY_SECONDS + 1
        supervisor.tend()
        clock.now += 0.26
        supervisor.tend()
    assert process.restarts == 4


def test_a_wrong_set_up_is_not_tried_again(supervisor: Supervisor, tmp_path: Path) -> None:
    """Exit code 2 says that the next try ends the same."""
    code = "import sys; print('port 8080 is in use', file=sys.stderr); sys.exit(2)"
    process = supervisor.start(Managed("server", python(code), tmp_path / "log"))
    wait_ended(process)
    with pytest.raises(SetupError, match="server ended with exit code 2; its last words: port 8080 is in use"):
        supervisor.tend()
    assert process.restarts == 0


def test_a_process_that_is_done_is_left_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    """The replay ends by itself: started again, every event would come twice."""
    process = supervisor.start(Managed("replay", python("pass"), tmp_path / "log", restart=False))
    wait_ended(process)
    supervisor.tend()
    supervisor.tend()
    assert (process.exit_code, process.restarts, process.pid) == (0, 0, None)


def test_a_replay_that_fails_is_not_restarted(supervisor: Supervisor, tmp_path: Path) -> None:
    """It would begin at the first row again."""
    process = supervisor.start(Managed("replay", python("raise SystemExit(1)"), tmp_path / "log", restart=False))
    wait_ended(process)
    with pytest.raises(SetupError, match="replay ended with exit code 1; its last words: none"):
        supervisor.tend()


def test_a_service_that_ends_without_an_error_is_restarted(
    supervisor: Supervisor, tmp_path: Path, clock: Clock
) -> None:
    """A worker that stops by itself leaves its partitions without an owner."""
    process = supervisor.start(Managed("worker", python("pass"), tmp_path / "log"))
    wait_ended(process)
    supervisor.tend()
    clock.now += 1
    supervisor.tend()
    assert process.restarts == 1


STOPS = (
    "import signal, sys, time\n"
    "def stop(*_):\n"
    "    open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')\n"
    "    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, stop)\n"
    "print('up', flush=True)\n"
    "time.sleep(600)\n"
)


def test_processes_are_stopped_in_reverse_order(supervisor: Supervisor, tmp_path: Path) -> None:
    """A worker whose broker went first cannot send what is in its outbox."""
    order = tmp_path / "order"
    started = []
    for name in ("broker", "worker", "learner"):
        log = tmp_path / "logs" / name
        started.append(supervisor.start(Managed(name, [*python(STOPS), str(order), name], log)))
        wait_for(log, "up")
    supervisor.stop()
    assert order.read_text().split() == ["learner", "worker", "broker"]
    assert [process.pid for process in started] == [None, None, None]
    supervisor.tend()
    assert supervisor.restarts() == 0


def test_a_process_that_ignores_sigterm_is_killed(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C would hang on one stuck process and leave the rest running."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
    log = tmp_path / "log"
    process = supervisor.start(Managed("stuck", python(code), log))
    wait_for(log, "up")
    child = process._process
    assert child is not None
    supervisor.stop()
    assert child.returncode == -signal.SIGKILL


def test_stopping_what_never_ran_or_has_ended_does_nothing(supervisor: Supervisor, tmp_path: Path) -> None:
    """The demo stops everything also where it failed half way."""
    never = Managed("never", python(SLEEP), tmp_path / "never")
    assert (never.pid, never.exit_code, never.last_words()) == (None, None, "none")
    never.tend()
    never.stop()
    ended = supervisor.start(Managed("ended", python("pass"), tmp_path / "ended"))
    wait_ended(ended)
    ended.stop()
    ended.stop()


def test_output_of_all_runs_goes_to_one_log(supervisor: Supervisor, tmp_path: Path, clock: Clock) -> None:
    """The words before a crash would be gone once it was restarted."""
    code = "import sys; print('out', flush=True); sys.exit('err')"
    process = supervisor.start(Managed("worker", python(code), tmp_path / "deep" / "log"))
    wait_ended(process)
    supervisor.tend()
    clock.now += 1
    supervisor.tend()
    wait_ended(process)
    assert process.log.read_text().split() == ["out", "err", "out", "err"]
    assert process.last_words() == "err"


def test_commands_run_in_this_environment_without_the_present_folder() -> None:
    """A user's own model.py in the folder of the demo would be imported in place of ours."""
    assert headwater_command("worker", "--x") == [sys.executable, "-P", "-m", "deploy.cli", "worker", "--x"]

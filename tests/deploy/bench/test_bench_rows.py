import json
from pathlib import Path

import pytest
from rich.console import Console

from deploy.bench.event_log import EventLog
from deploy.bench.rows import Planned, Results, Row, results_table
from storage.errors import SetupError

LOG = EventLog(name="log", events=100, users=5, event_ids=True)


def planned(number: int = 1) -> Planned:
    return Planned(system="headwater", job="append", workers=2, log=LOG, events=100, round=number)


def test_rows_of_the_file_are_not_run_again(tmp_path: Path) -> None:
    """A table of an hour that was cut short must not begin anew."""
    file = tmp_path / "rows.json"
    results = Results.resume(file, {"events": 100})
    results.add(Row.of(planned(1), events_per_second=7.0))
    results.add(Row.of(planned(2), note="not run: no java"))
    again = Results.resume(file, {"events": 100})
    assert again.holds(planned(1))
    assert not again.holds(planned(2)), "what could not be run is tried again"
    assert json.loads(file.read_text())["machine"]["cores"]


@pytest.mark.parametrize("text", ["", "[]", '{"rows": [{"speed": 1}]}'])
def test_another_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    """--json with the wrong name must not cost that file's content."""
    file = tmp_path / "notes.json"
    file.write_text(text)
    with pytest.raises(SetupError, match="--json"):
        Results.resume(file, {})
    assert file.read_text() == text


def test_the_table_shows_the_median_of_rounds_and_why_a_row_is_empty() -> None:
    """One lucky round must not stand for all."""
    rows = [Row.of(planned(number), events_per_second=rate) for number, rate in ((1, 100.0), (2, 900.0), (3, 200.0))]
    rows.append(Row(system="kafka-streams", job="append", workers=2, users=5, events=100, round=1, note="not run: why"))
    console = Console(width=180, record=True, file=None)
    with console.capture() as captured:
        console.print(results_table(rows))
    own, peer = [line for line in captured.get().splitlines() if "append" in line]
    assert " 200 " in own
    assert "100-900" in own
    assert "not run: why" in peer

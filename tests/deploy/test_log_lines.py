import json
import logging
import subprocess
import sys

from deploy.broker import free_port
from deploy.log_lines import JsonLines
from deploy.supervisor import headwater_command


def test_a_line_holds_its_place_and_its_error_without_a_line_break() -> None:
    """A collector takes a traceback for thirty lines, or finds no partition to search for."""
    try:
        raise ValueError("bad")
    except ValueError:
        record = logging.LogRecord("streams.worker", logging.ERROR, "x.py", 1, "no %s", ("way",), sys.exc_info())
    record.__dict__ |= {"partition": 3, "offset": 7, "place": ValueError("any")}
    text = JsonLines().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "streams.worker", "no way")
    assert (line["partition"], line["offset"], line["place"]) == (3, 7, "any")
    assert line["exception"].endswith("ValueError: bad")


def test_the_setting_reaches_the_handler() -> None:
    """Lines of other libraries stay text."""
    script = "import logging, deploy.cli_app as c; c.log_to_stderr('json'); logging.getLogger('kafka').error('x')"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(found.stderr)["message"] == "x"
    command = headwater_command("worker", "--worker.log-format", "xml", "--worker.web-port", str(free_port()))
    assert "log-format" in subprocess.run(command, capture_output=True, text=True, check=False).stderr

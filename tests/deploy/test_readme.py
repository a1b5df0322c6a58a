"""What the README tells people to type, and what it shows them, is what there is."""

import re
import shlex
from pathlib import Path

import pytest

from deploy.cli import app
from deploy.live import HEADINGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TYPED = re.findall(r"^\$ (?:\.venv/bin/)?headwater (.*?)(?: &| +#.*)?$", README, re.MULTILINE)
TARGETS = re.findall(r"^\$ make (\w+)", README, re.MULTILINE)


@pytest.mark.parametrize("arguments", TYPED)
def test_every_command_of_the_readme_exists(arguments: str) -> None:
    """A newcomer types what the README says, letter by letter."""
    command, _, _ = app.parse_args(shlex.split(arguments), exit_on_error=False, print_error=False)
    assert callable(command)


def test_the_readme_has_commands_to_check() -> None:
    """The test above would pass on a README without commands."""
    assert len(TYPED) >= 8
    assert {"demo", "test"} <= set(TARGETS)


@pytest.mark.parametrize("target", sorted(set(TARGETS)))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    """A target that was renamed."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_readme_shows_the_columns_that_the_live_table_has() -> None:
    """Output in the README that the demo no longer prints."""
    assert " ".join(HEADINGS) in re.sub(" +", " ", README)

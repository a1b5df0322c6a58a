"""Where machine code is kept."""

import logging
from pathlib import Path
from typing import Any

import pytest

from storage import compiled as module
from storage.compiled import compiled


class Config:
    def __init__(self, folder: str) -> None:
        self.CACHE_DIR = folder


@pytest.fixture
def folder_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The folder that would be chosen where `NUMBA_CACHE_DIR` says this."""

    def chosen(given: Path | str) -> Path | None:
        monkeypatch.setattr(module, "_config", Config(str(given)))
        return module._folder.__wrapped__()

    return chosen


def test_each_state_of_the_sources_has_a_folder_and_the_former_one_goes(
    folder_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numba itself goes on with the machine code of a former version where only what a function calls has changed."""
    first = folder_of(tmp_path)
    assert first == folder_of(tmp_path)
    monkeypatch.setattr(module, "_digest", lambda sources: "other")
    assert folder_of(tmp_path) == tmp_path / "headwater-other"
    assert not first.exists()


def test_the_digest_follows_every_source(tmp_path: Path) -> None:
    """As above."""
    for package in ("storage", "streams"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "one.py").write_text("ONE = 1\n")
    before = module._digest(tmp_path)
    assert before == module._digest(tmp_path)
    (tmp_path / "streams" / "one.py").write_text("ONE = 2\n")
    assert before != module._digest(tmp_path)


def test_where_nothing_can_be_written_it_is_said_and_code_is_made_anew(
    folder_of: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without a home must start all the same."""
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        assert folder_of(tmp_path / "file") is None
    assert "set NUMBA_CACHE_DIR" in caplog.text
    monkeypatch.setattr(module, "_folder", lambda: None)

    def twice(number: int) -> int:
        return 2 * number

    assert compiled(twice)(4) == 8


def test_without_a_word_it_lies_beside_the_sources_or_in_the_users_cache(
    folder_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation that only root can write to would compile in each process."""
    beside = folder_of("")
    assert beside.parent == Path(module.__file__).parent / "__pycache__"
    monkeypatch.setattr(module, "__file__", str(tmp_path / "file" / "storage" / "compiled.py"))
    (tmp_path / "file").touch()
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert folder_of("").parent == tmp_path / "home" / ".cache" / "headwater"

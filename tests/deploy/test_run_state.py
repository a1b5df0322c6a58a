"""The file that a long run goes on from."""

from pathlib import Path

import numpy as np
import pytest

from deploy.run_state import RunState
from storage.errors import SetupError

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7])}
ROWS = [{"epoch": 1, "loss": 0.5}]
RUN = {"seed": 0, "actions": ("x", "y")}


def state_factory(folder: Path, run: dict[str, object] | None = None) -> RunState:
    return RunState(folder / "run.state", run or RUN)


def test_a_run_goes_on_with_what_it_saved(tmp_path: Path) -> None:
    """Arrays, rows, or their types would differ after a kill."""
    assert state_factory(tmp_path).load().rows == []
    state_factory(tmp_path).save(ARRAYS, ROWS)
    saved = state_factory(tmp_path).load()
    assert saved.rows == ROWS
    assert saved.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(saved.arrays[name], array, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run.state"]


def test_a_state_half_written_leaves_the_one_before(tmp_path: Path) -> None:
    """A kill during the write must not cost the run."""
    state_factory(tmp_path).save(ARRAYS, ROWS)
    (tmp_path / "run.state.new").write_bytes(b"half")
    assert state_factory(tmp_path).load().rows == ROWS
    state_factory(tmp_path).save(ARRAYS, [*ROWS, *ROWS])
    assert len(state_factory(tmp_path).load().rows) == 2


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    """Weights of one seed or data set would go on as those of another."""
    state_factory(tmp_path).save(ARRAYS, ROWS)
    with pytest.raises(SetupError, match="another run: seed 0 there and 1 here; name another file with --resume"):
        state_factory(tmp_path, {**RUN, "seed": 1}).load()


@pytest.mark.parametrize("content", [b"", b"not a state", b"\x02\0\0\0\0\0\0\0{}"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """A mistyped name would overwrite what is there."""
    (tmp_path / "run.state").write_bytes(content)
    with pytest.raises(SetupError, match="cannot resume from"):
        state_factory(tmp_path).load()
    assert (tmp_path / "run.state").read_bytes() == content


def test_a_run_without_a_file_keeps_nothing() -> None:
    """Without --resume nothing is to be written anywhere."""
    RunState(None, RUN).save(ARRAYS, ROWS)
    assert RunState(None, RUN).load().rows == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """An hour's epoch would end in a traceback."""
    with pytest.raises(SetupError, match=r"cannot write .*No such file or directory; name another file"):
        state_factory(tmp_path / "gone").save(ARRAYS, ROWS)

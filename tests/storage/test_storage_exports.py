import subprocess
import sys

import pytest

import storage


def test_the_exported_names_are_there_and_sorted() -> None:
    """A name that is listed and missing breaks the first line that a newcomer types."""
    assert storage.__all__ == sorted(storage.__all__)
    assert all(hasattr(storage, name) for name in storage.__all__)


def test_a_name_that_is_not_there_is_said() -> None:
    """A typing error must not come as a riddle."""
    with pytest.raises(AttributeError, match="'storage' has no attribute 'Sequences'"):
        storage.Sequences  # noqa: B018  # the attribute is what is tested


def test_reading_a_snapshot_loads_neither_torch_nor_kafka_nor_numba() -> None:
    """Whoever reads a snapshot should not wait for a deep learning library or a compiler."""
    heavy = "{'torch', 'kafka', 'faust', 'numba'}"
    code = f"import sys, storage; storage.SnapshotStore; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"

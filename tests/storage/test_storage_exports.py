import subprocess
import sys

import storage


def test_the_exported_names_are_there_and_sorted() -> None:
    """A name that is listed and missing breaks the first line that a newcomer types."""
    assert storage.__all__ == sorted(storage.__all__)
    assert all(hasattr(storage, name) for name in storage.__all__)


def test_importing_it_loads_neither_torch_nor_kafka() -> None:
    """Whoever reads a snapshot or a sequence should not wait for a deep learning library."""
    code = "import sys, storage; print(sorted({'torch', 'kafka', 'faust'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"

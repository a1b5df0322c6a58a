"""Functions over arrays that numba compiles: the one place that knows how, and where the machine code is kept."""

import logging
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import xxhash

Function = TypeVar("Function", bound=Callable[..., Any])

_PACKAGES = ("storage", "streams")
"""Whose sources the machine code is made from."""

_config: Any = numba.config

logger = logging.getLogger(__name__)


def compiled(function: Function) -> Function:
    """The function as machine code, made at its first call and kept for the next process.

    With `NUMBA_DISABLE_JIT=1` it stays what it is.
    """
    folder = _folder()
    if folder is not None:
        _config.CACHE_DIR = str(folder)
    # Inlined: arrays that are handed from function to function are counted at each step otherwise. Without the lock:
    # the thread that fetches goes on meanwhile.
    made: Any = numba.njit(cache=folder is not None, nogil=True, forceinline=True)(function)
    compiled_function: Function = made
    return compiled_function


@cache
def _folder() -> Path | None:
    """Where machine code is kept: in `NUMBA_CACHE_DIR`, or beside the sources, or in the user's cache.

    There it has a folder of its own for each state of the sources: numba looks at the file of a function alone, and
    takes no notice when what that calls has changed.
    """
    sources = Path(__file__).parent.parent
    name = f"headwater-{_digest(sources)}"
    given = str(_config.CACHE_DIR)
    places = [Path(given)] if given else [Path(__file__).parent / "__pycache__", Path.home() / ".cache" / "headwater"]
    for place in places:
        try:
            (place / name).mkdir(parents=True, exist_ok=True)
            (place / name / "writable").touch()
        except OSError:
            continue
        for former in place.glob("headwater-*"):
            if former.name != name:
                shutil.rmtree(former, ignore_errors=True)
        return place / name
    logger.warning("each process compiles anew, as no folder for it can be written: set NUMBA_CACHE_DIR to one")
    return None


def _digest(sources: Path) -> str:
    digest = xxhash.xxh3_64()
    for package in _PACKAGES:
        for file in sorted((sources / package).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()

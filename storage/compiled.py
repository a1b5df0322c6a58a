"""Functions over arrays that numba compiles: the one place that knows it, as it ships no types."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba  # type: ignore[import-untyped]  # numba ships no types

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code, made at its first call and kept beside its source for the next process.

    With `NUMBA_DISABLE_JIT=1` it stays what it is, so that coverage sees its lines.
    """
    made: Function = numba.njit(cache=True, nogil=True, boundscheck=False)(function)
    return made

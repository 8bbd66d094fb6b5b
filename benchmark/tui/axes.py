"""The axes of a plan: their labels in order, and which of them vary. Pure functions."""

import math
from collections.abc import Iterable, Mapping
from itertools import combinations

from benchmark.events import TaskInfo
from benchmark.tui.records import CellView, TaskView

AXES = ("bridge", "rank", "model", "dataset", "prior", "inversion", "recipe", "defence", "knowledge", "seed")
"""Axes in the order in which they are chosen for rows and columns."""

PREFIXES = {"rank": "r", "seed": "s"}
"""Axes whose labels are bare numbers -> what stands before the number in a short name."""


def natural(label: str) -> tuple[int, float, str]:
    """Sort key that puts 16 after 8, and numbers before words."""
    try:
        number = float(label)
    except ValueError:
        return 1, 0.0, label
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Numbers sorted; words as they come, which is the plan's order."""
    found = tuple(dict.fromkeys(labels))
    return tuple(sorted(found, key=natural)) if all(natural(label)[0] == 0 for label in found) else found


def axis_values(cells: Iterable[CellView]) -> dict[str, tuple[str, ...]]:
    """Axis -> its labels, in order; the known axes first."""
    labels: dict[str, dict[str, None]] = {}
    for cell in cells:
        for axis, label in cell.labels.items():
            labels.setdefault(axis, {})[label] = None
    order = [axis for axis in AXES if axis in labels] + sorted(set(labels) - set(AXES))
    return {axis: in_order(labels[axis]) for axis in order}


def axis_pairs(values: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Pairs (row axis, column axis) of the axes with more than one label, the most telling first; never empty."""
    varied = [axis for axis, labels in values.items() if len(labels) > 1]
    if len(varied) > 1:
        return list(combinations(varied, 2))
    return [(varied[0] if varied else "bridge", "")]


def short_name(labels: Mapping[str, str], values: Mapping[str, tuple[str, ...]]) -> str:
    """The labels of the axes that vary, in one line: `ridge r8 vit s0`."""
    varied = [axis for axis, labels_of_axis in values.items() if len(labels_of_axis) > 1 and axis in labels]
    return " ".join(PREFIXES.get(axis, "") + labels[axis] for axis in varied)


def phase_order(tasks: Iterable[TaskInfo]) -> list[str]:
    """Phases so that each comes after those it takes its inputs from; `tasks` are in topological order."""
    depth: dict[str, int] = {}
    deepest: dict[str, int] = {}
    for task in tasks:
        depth[task.key] = 1 + max((depth.get(key, 0) for key in task.inputs.values()), default=0)
        deepest[task.phase] = max(deepest.get(task.phase, 0), depth[task.key])
    return sorted(deepest, key=deepest.__getitem__)


def needs_of_phases(tasks: Mapping[str, TaskView]) -> dict[str, list[str]]:
    """Phase -> the phases that its tasks take their inputs from, in the order of the first that does."""
    found: dict[str, dict[str, None]] = {}
    for task in tasks.values():
        needed = found.setdefault(task.phase, {})
        for key in task.inputs.values():
            if key in tasks:
                needed[tasks[key].phase] = None
    return {phase: list(needed) for phase, needed in found.items()}

"""Where a number comes from: the cells that an entry of a table stands on, and one hash for all of them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.declaration import Declaration
from reports.reading import AXES, Reader
from reports.table import Block, Line

KEY_DIGITS = 12
"""Of keys and hashes, in print."""
LABELS = (*AXES, "rank", "seed")
"""Told of a run. A recipe's label has the defence in it."""
MATCHED = (*LABELS, "plain_recipe", "defence")
"""Columns of tables by which runs are found."""


@dataclass(frozen=True)
class Run:
    """A cell with a result."""

    cell_id: str
    labels: Mapping[str, str]
    """Axis -> label."""
    key: str
    """Of its score artefact: the hash of its spec, its code, and of all that it stands on."""
    stages: Mapping[str, str]
    """Stage -> key of its artefact."""
    folder: str
    """Of the score, from the store."""
    created: str
    seconds: float
    """Of all its stages."""
    versions: Mapping[str, str]
    code_version: str


@dataclass(frozen=True)
class Source:
    """What an entry stands on."""

    digest: str
    """Of the runs' keys; the same runs, the same digest."""
    runs: tuple[Run, ...]


class Sources:
    """Finds the runs of an entry by the labels that its table names."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = tuple(runs)
        self._labels = {axis: {run.labels[axis] for run in self.runs} for axis in MATCHED}
        self._found: dict[tuple[str, ...], dict[tuple[str, ...], Source]] = {}

    def of(self, told: Declaration, block: Block, line: Line, value: str) -> Source | None:
        """The runs behind the entry at `line` under `value`; None where none has a result.

        A control's name is no label of a bridge: it stands on all runs that share the entry's other labels.
        """
        named = dict(block.heading) | dict(zip(told.sections, line.section, strict=True))
        named |= dict(zip(told.rows, line.names, strict=True)) | {told.spread.column: value}
        known = {axis: named[axis] for axis in MATCHED if axis in named and named[axis] in self._labels[axis]}
        return self._by(tuple(known)).get(tuple(known.values()))

    def _by(self, axes: tuple[str, ...]) -> dict[tuple[str, ...], Source]:
        if axes not in self._found:
            groups: defaultdict[tuple[str, ...], list[Run]] = defaultdict(list)
            for run in self.runs:
                groups[tuple(run.labels[axis] for axis in axes)].append(run)
            self._found[axes] = {labels: source_of(runs) for labels, runs in groups.items()}
        return self._found[axes]


def source_of(runs: Iterable[Run]) -> Source:
    """The runs with their digest, which does not depend on their order."""
    chosen = tuple(runs)
    keys = "\n".join(sorted(run.key for run in chosen))
    return Source(hashlib.sha256(keys.encode()).hexdigest()[:KEY_DIGITS], chosen)


def read_sources(reader: Reader) -> Sources:
    """All runs of the suite with a result, in the suite's order."""
    stages: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in reader.rows(_STAGES):
        stages[row["cell_id"]][row["stage"]] = row["key"]
    return Sources([_run(row, stages[row["cell_id"]]) for row in reader.rows(_RUNS)])


def _run(row: Mapping[str, Any], stages: Mapping[str, str]) -> Run:
    manifest: dict[str, Any] = json.loads(row["manifest"])
    return Run(
        cell_id=row["cell_id"],
        labels={axis: str(row[axis]) for axis in MATCHED},
        key=row["key"],
        stages=stages,
        folder=row["folder"],
        created=row["created"].strftime("%Y-%m-%d %H:%M UTC"),
        seconds=row["total_seconds"],
        versions={str(name): str(version) for name, version in manifest.get("versions", {}).items()},
        code_version=str(manifest.get("code_version", "")),
    )


_STAGES = "SELECT cell_id, stage, key FROM cell_tasks WHERE suite = getvariable('suite')"
_RUNS = """
SELECT suite_cells.*, tasks.key, tasks.folder, tasks.created, tasks.manifest, total_seconds
FROM suite_cells
JOIN cell_tasks ON cell_tasks.cell_id = suite_cells.cell_id AND cell_tasks.suite = suite_cells.suite
JOIN tasks USING (key)
JOIN (
    SELECT cell_id, sum(tasks.seconds) AS total_seconds FROM cell_tasks JOIN tasks USING (key)
    WHERE suite = getvariable('suite') GROUP BY cell_id
) AS totals ON totals.cell_id = suite_cells.cell_id
WHERE stage = 'score' AND state = 'finished' ORDER BY position
"""

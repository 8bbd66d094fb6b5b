"""What must hold of a store after a fault: nothing torn, lost or repeated, and every record telling the same."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from benchmark import events as e
from benchmark import journal
from benchmark.graph import Graph
from benchmark.manifest import MANIFEST_FILE
from benchmark.store import Store

Digests = dict[str, dict[str, str]]
"""Key -> file -> checksum."""


def present(root: Path) -> set[str]:
    """Keys of the artefacts that are there, by a look that changes nothing."""
    return {path.parent.name for path in root.glob(f"artefacts/??/*/{MANIFEST_FILE}")}


def torn(root: Path) -> set[str]:
    """Keys of the folders among the artefacts that are not whole, by every checksum."""
    store = Store(root.absolute())
    return {path.name for path in root.glob("artefacts/??/*") if store.problem(path.name, full=True) is not None}


def lost(root: Path) -> set[str]:
    """Keys that a journal calls finished and the store has not."""
    return _told(root, e.TaskFinished) - present(root)


def repeated(log: Path, offset: int, before: set[str]) -> set[str]:
    """Keys in `before` that were started again after `offset` characters of `log`."""
    return starts(log, offset).keys() & before


def starts(log: Path, offset: int = 0) -> Counter[str]:
    """How often each task was started."""
    text = log.read_text()[offset:] if log.exists() else ""
    return Counter(line.split()[1] for line in text.splitlines() if line.startswith("start "))


def digests(root: Path) -> Digests:
    """The checksum of every file of every artefact."""
    store = Store(root.absolute())
    return {key: {name: file.sha256 for name, file in store.manifest(key).files.items()} for key in store.keys()}  # noqa: SIM118


def disagreements(root: Path, graph: Graph, wanted: Digests) -> list[str]:
    """Which records of a finished run do not tell what the store holds; empty where all agree."""
    found = {
        "results differ from those of an undisturbed run": digests(root) != wanted,
        "the last journal does not account for every task": _last_journal(root) != set(graph.tasks),
        "MLflow lacks cells, or has one twice": _tracked(root) != {cell.id: 1 for cell in graph.cells},
        "DuckDB lacks cells or artefacts": _in_warehouse(root) != ({cell.id for cell in graph.cells}, set(graph.tasks)),
        "temporary folders are left": any((root / "temp").glob("*")),
        "something was quarantined": any(root.glob("quarantine/*")),
        "the lock is held": Store(root.absolute()).owner() is not None,
    }
    return [problem for problem, holds in found.items() if holds]


def _told(root: Path, *kinds: type[e.TaskFinished | e.TaskCached]) -> set[str]:
    paths = root.glob("runs/*/journal.jsonl")
    return {event.key for path in paths for event in journal.read(path) if isinstance(event, kinds)}


def _last_journal(root: Path) -> set[str]:
    path = max(root.glob("runs/*/journal.jsonl"))
    return {event.key for event in journal.read(path) if isinstance(event, e.TaskFinished | e.TaskCached)}


def _tracked(root: Path) -> dict[str, int]:
    query = """SELECT t.value, count(*) FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'bridge.cell'
               WHERE r.lifecycle_stage = 'active' AND r.status = 'FINISHED' GROUP BY 1"""
    with closing(sqlite3.connect(f"file:{quote(str(root / 'mlflow.db'))}?mode=ro", uri=True)) as database:
        return dict(database.execute(query).fetchall())


def _in_warehouse(root: Path) -> tuple[set[str], set[str]]:
    import duckdb

    with duckdb.connect(root / "warehouse.duckdb", read_only=True) as database:
        cells = database.execute("SELECT cell_id FROM cells WHERE state = 'finished'").fetchall()
        tasks = database.execute("SELECT key FROM tasks").fetchall()
    return {cell for (cell,) in cells}, {key for (key,) in tasks}

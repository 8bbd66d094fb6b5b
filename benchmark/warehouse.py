"""The DuckDB file that tables and figures read, built from the store's artefacts; the only importer of duckdb here.

    cells       one row a cell of a suite: axis labels, knobs, state
    cell_tasks  the tasks a cell stands on, by stage
    tasks       one row an artefact: phase, seconds, manifest, folder relative to the store
    facts       the numbers of those artefacts (`facts.parquet`), one row each
    store       one row: where the store is

Several suites stand side by side. A build replaces its own suite in a copy of the file, which then takes the file's
place: a reader sees the old rows or the new ones, and a killed build leaves the old ones.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from bridge_core.errors import CorruptArtefact, StoreFault
from bridge_core.facts import FACTS_FILE
from bridge_core.spec import ZooCell, content

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from benchmark.graph import Graph, PlannedCell
    from benchmark.store import Store

Table = Any
"""A `pyarrow.Table`, which has no types of its own."""

AXES = ("model", "rank", "dataset", "prior", "recipe", "defence", "bridge", "inversion", "knowledge", "seed")
FILES_A_BATCH = 500
"""Artefacts whose facts are held in memory at a time."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS cells (
    cell_id TEXT, suite TEXT, position INTEGER, model TEXT, rank INTEGER, dataset TEXT, prior TEXT, recipe TEXT,
    defence TEXT, bridge TEXT, inversion TEXT, knowledge TEXT, seed INTEGER, num_secrets INTEGER, knobs JSON,
    state TEXT, cause TEXT
);
CREATE TABLE IF NOT EXISTS cell_tasks (suite TEXT, cell_id TEXT, stage TEXT, key TEXT);
CREATE TABLE IF NOT EXISTS tasks (
    key TEXT, phase TEXT, seconds DOUBLE, attempt INTEGER, created TIMESTAMP, manifest JSON, folder TEXT
);
CREATE TABLE IF NOT EXISTS facts (key TEXT, name TEXT, value DOUBLE, secret INTEGER, module TEXT, step INTEGER);
CREATE TABLE IF NOT EXISTS store (path TEXT);
"""
"""`cells.position` is the cell's place in its suite; `cells.cause` is NULL but for failed cells."""

NO_FAILURES: Mapping[str, str] = MappingProxyType({})


def build_warehouse(store: Store, graph: Graph, path: Path, failed: Mapping[str, str] = NO_FAILURES) -> None:
    """Replace the rows of `graph`'s suite in the DuckDB file `path` by what the store holds now.

    `failed` maps a cell's id to the cause of its failure; a cell without a score that is not among them is pending.
    Raises `StoreFault` where the file can not be read or written, `CorruptArtefact` where an artefact can not be read.
    """
    import duckdb

    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            shutil.copyfile(path, draft)
        with duckdb.connect(draft) as database:
            _replace_suite(database, store, graph, failed)
        os.replace(draft, path)
    except (duckdb.Error, OSError) as fault:
        remedy = "delete the file: it is built from the artefacts again"
        raise StoreFault(f"{path}: {fault}", "a DuckDB file of this program", remedy) from fault
    finally:
        for left in (draft, draft.with_name(f"{draft.name}.wal")):
            left.unlink(missing_ok=True)


def _replace_suite(database: DuckDBPyConnection, store: Store, graph: Graph, failed: Mapping[str, str]) -> None:
    database.execute("BEGIN")
    database.execute(SCHEMA)
    for table in ("cells", "cell_tasks"):
        database.execute(f"DELETE FROM {table} WHERE suite = ?", [graph.suite])
    finished = [key for key in graph.tasks if store.has(key)]
    present = set(finished)
    _insert(database, "cells", [_cell_row(graph, i, cell, present, failed) for i, cell in enumerate(graph.cells)])
    links = [(graph.suite, cell.id, stage, key) for cell in graph.cells for stage, key in cell.tasks.items()]
    _insert(
        database, "cell_tasks", [dict(zip(("suite", "cell_id", "stage", "key"), link, strict=True)) for link in links]
    )
    _forget(database, finished)
    _insert(database, "tasks", [_task_row(store, key) for key in finished])
    for table in _facts(store, finished):
        database.register("incoming", table)
        database.execute("INSERT INTO facts BY NAME SELECT * FROM incoming")
    database.execute("DELETE FROM store")
    database.execute("INSERT INTO store VALUES (?)", [str(store.root.resolve())])
    database.execute("COMMIT")


def _forget(database: DuckDBPyConnection, keys: Sequence[str]) -> None:
    """Drop the tasks `keys`, which are written again, and all that no suite stands on any more."""
    import pyarrow as pa

    database.register("rewritten", cast(Table, pa.table({"key": pa.array(keys, pa.string())})))
    for table in ("tasks", "facts"):
        database.execute(
            f"DELETE FROM {table} WHERE key IN (SELECT key FROM rewritten) OR key NOT IN (SELECT key FROM cell_tasks)"
        )


def _insert(database: DuckDBPyConnection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa

    if rows:
        database.register("incoming", cast(Table, pa.Table.from_pylist([dict(row) for row in rows])))
        database.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")


def _cell_row(
    graph: Graph, position: int, cell: PlannedCell, present: set[str], failed: Mapping[str, str]
) -> dict[str, Any]:
    assert not isinstance(cell.cell, ZooCell), "a zoo has no cells to report"
    done = cell.tasks["score"] in present
    cause = None if done else failed.get(cell.id)
    labels = {axis: cell.labels.get(axis, "") for axis in AXES}
    return {
        **labels,
        "rank": cell.cell.rank,
        "seed": cell.cell.seed,
        "cell_id": cell.id,
        "suite": graph.suite,
        "position": position,
        "num_secrets": cell.cell.num_secrets,
        "knobs": json.dumps(content(cell.cell)),
        "state": "finished" if done else "pending" if cause is None else "failed",
        "cause": cause,
    }


def _task_row(store: Store, key: str) -> dict[str, Any]:
    manifest = store.manifest(key)
    return {
        "key": key,
        "phase": manifest.phase,
        "seconds": manifest.seconds,
        "attempt": manifest.attempt,
        "created": manifest.created.astimezone(UTC).replace(tzinfo=None),
        "manifest": manifest.model_dump_json(),
        "folder": store.path(key).relative_to(store.root).as_posix(),
    }


def _facts(store: Store, keys: Sequence[str]) -> Iterator[Table]:
    """The facts of `keys`, with the key as a column, some hundred artefacts at a time."""
    import pyarrow as pa

    for start in range(0, len(keys), FILES_A_BATCH):
        batch = [table for key in keys[start : start + FILES_A_BATCH] if (table := _facts_of(store, key)) is not None]
        if batch:
            yield pa.concat_tables(batch)


def _facts_of(store: Store, key: str) -> Table | None:
    import pyarrow as pa
    from pyarrow import parquet

    path = store.path(key) / FACTS_FILE
    if not path.is_file():
        return None
    try:
        table = cast(Table, parquet.ParquetFile(path).read())
    except (ValueError, OSError) as fault:
        found = f"{path}: {' '.join(str(fault).split())}"
        raise CorruptArtefact(
            found, "a parquet file of facts", "run `bridge store verify`, then the suite again"
        ) from fault
    return table.add_column(0, "key", pa.repeat(key, len(table)))

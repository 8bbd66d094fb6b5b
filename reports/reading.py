"""The DuckDB file, opened to be read: a suite's standing, its knobs, and the rows of a table."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.errors import ReportError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

AXES = ("model", "dataset", "recipe", "knowledge", "bridge", "inversion", "prior")
"""Axes whose labels stand for knobs."""
Row = dict[str, Any]
RUN_AGAIN = "run `bridge bench run` with its suite file"


@dataclass(frozen=True)
class Standing:
    """How far a suite is."""

    finished: int
    pending: int
    failed: int
    score_keys: tuple[str, ...]
    """Keys of the score artefacts that the tables stand on, in the suite's order."""

    @property
    def cells(self) -> int:
        """All cells of the suite."""
        return self.finished + self.pending + self.failed


@dataclass(frozen=True)
class Reader:
    """A warehouse, for one suite."""

    database: DuckDBPyConnection
    warehouse: Path
    suite: str

    def rows(self, sql: str) -> list[Row]:
        """The rows of a query, by column."""
        found = self.database.execute(sql)
        names = [str(column[0]) for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def standing(self) -> Standing:
        """Cells by state, and what the finished ones were scored as."""
        states = {row["state"]: row["n"] for row in self.rows(_STATES)}
        keys = tuple(row["key"] for row in self.rows(_SCORE_KEYS))
        return Standing(states.get("finished", 0), states.get("pending", 0), states.get("failed", 0), keys)

    def legend(self) -> dict[str, dict[str, dict[str, str]]]:
        """Axis -> label -> its knobs, as `optimiser.kind` -> `sgd`."""
        told: dict[str, dict[str, dict[str, str]]] = {axis: {} for axis in AXES}
        for axis, labels in told.items():
            knobs = _KNOBS.get(axis, f"knobs -> '$.{axis}'")
            distinct = f"SELECT {axis} AS label, {knobs} AS knobs, min(position) AS position"
            for row in self.rows(f"{distinct} FROM suite_cells GROUP BY ALL ORDER BY position"):
                labels.setdefault(row["label"], _flat(json.loads(row["knobs"] or "{}")))
        return told

    def folder(self, relative: str) -> Path:
        """An artefact's folder: beside the warehouse where it is there (a store may have moved), else in its store."""
        beside = self.warehouse.resolve().parent / relative
        if beside.is_dir():
            return beside
        return Path(self.rows("SELECT path FROM store")[0]["path"]) / relative


@contextmanager
def open_warehouse(warehouse: Path, suite: str) -> Generator[Reader]:
    """Open `warehouse` for `suite`.

    Raises `ReportError` where the file is not there, can not be read, or holds no such suite.
    """
    import duckdb

    if not warehouse.is_file():
        raise ReportError(f"no results in {warehouse}", "a warehouse", RUN_AGAIN, exit_code=2)
    try:
        with duckdb.connect(warehouse, read_only=True) as database:
            reader = Reader(database, warehouse, suite)
            _check_suite(reader)
            database.execute("SET VARIABLE suite = ?", [suite])
            database.execute((files("reports") / "tables" / "views.sql").read_text("utf-8"))
            yield reader
    except duckdb.Error as fault:
        raise ReportError(
            f"{warehouse}: {fault}", "a warehouse of this program", f"delete it and {RUN_AGAIN}"
        ) from fault


def suites_of(warehouse: Path) -> list[str]:
    """The suites in `warehouse` of which a cell has a result, by name."""
    import duckdb

    if not warehouse.is_file():
        raise ReportError(f"no results in {warehouse}", "a warehouse", RUN_AGAIN, exit_code=2)
    with duckdb.connect(warehouse, read_only=True) as database:
        found = database.execute("SELECT DISTINCT suite FROM cells WHERE state = 'finished' ORDER BY suite").fetchall()
    return [str(suite) for (suite,) in found]


def _check_suite(reader: Reader) -> None:
    suites = [str(row["suite"]) for row in reader.rows("SELECT DISTINCT suite FROM cells ORDER BY suite")]
    if reader.suite not in suites:
        there = f"one of {', '.join(suites)}" if suites else "a suite that was run"
        raise ReportError(f"no suite {reader.suite!r} in {reader.warehouse}", there, RUN_AGAIN, exit_code=2)


def _flat(knobs: Row, prefix: str = "") -> dict[str, str]:
    told: dict[str, str] = {}
    for name, value in knobs.items():
        if isinstance(value, dict):
            told |= _flat(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        elif value is not None:
            told[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return told


_KNOBS = {"recipe": "json_merge_patch(knobs -> '$.recipe', json_object('defence', knobs -> '$.defence'))"}
"""A recipe's knobs and its defence's, where it has one: a merged null leaves nothing behind."""
_STATES = "SELECT state, count(*) AS n FROM suite_cells GROUP BY state"
_SCORE_KEYS = """
SELECT DISTINCT ON (key) key FROM suite_cells JOIN cell_tasks USING (suite, cell_id)
WHERE stage = 'score' AND state = 'finished' ORDER BY position
"""

"""The DuckDB file says what the store holds, suite by suite, and is replaced in one step."""

import json
import os
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from benchmark.warehouse import build_warehouse
from bridge_core import spec as s
from bridge_core.errors import CorruptArtefact, StoreFault
from tests.synthetic_store import CREATED, cells, filled_store, psnr


def query(path: Path, sql: str) -> list[tuple]:
    with duckdb.connect(path, read_only=True) as database:
        return database.execute(sql).fetchall()


def test_cells_carry_labels_knobs_and_state_in_the_suites_order(tmp_path):
    filler = filled_store(tmp_path / "store", cells(ranks=(2,)), finished=5)
    failed = {filler.graph.cells[7].id: "Diverged", filler.graph.cells[0].id: "an older run's"}
    build_warehouse(filler.store, filler.graph, tmp_path / "w.duckdb", failed)
    rows = query(tmp_path / "w.duckdb", "SELECT cell_id, state, cause, bridge, rank, seed FROM cells ORDER BY position")
    assert [row[0] for row in rows] == [cell.id for cell in filler.graph.cells]
    assert [row[1] for row in rows] == ["finished"] * 5 + ["pending", "pending", "failed", "pending"]
    assert [row[2] for row in rows] == [None] * 7 + ["Diverged", None]
    assert rows[4][3:] == ("ridge", 2, 1)
    knobs = query(tmp_path / "w.duckdb", "SELECT knobs FROM cells WHERE position = 4")[0][0]
    assert json.loads(knobs) == s.content(filler.graph.cells[4].cell)


def test_facts_are_those_of_the_artefacts(tmp_path):
    filler = filled_store(tmp_path / "store [a]*", cells())
    build_warehouse(filler.store, filler.graph, tmp_path / "w.duckdb")
    for planned in filler.graph.cells:
        found = query(
            tmp_path / "w.duckdb",
            f"SELECT value, secret FROM facts JOIN cell_tasks USING (key) WHERE cell_id = '{planned.id}' "
            "AND stage = 'score' AND name = 'psnr' ORDER BY secret",
        )
        assert not isinstance(planned.cell, s.ZooCell)
        assert found == [(psnr(planned.cell, secret), secret) for secret in range(3)]
    (count,) = query(tmp_path / "w.duckdb", "SELECT count(*) FROM facts")[0]
    assert count == sum(
        parquet.read_metadata(path).num_rows for path in filler.store.root.glob("artefacts/*/*/*.parquet")
    )
    created, folder = query(tmp_path / "w.duckdb", "SELECT created, folder FROM tasks WHERE phase = 'score'")[0]
    (root,) = query(tmp_path / "w.duckdb", "SELECT path FROM store")[0]
    assert created == CREATED.replace(tzinfo=None)
    assert (Path(root) / folder / "images.safetensors").is_file()


def test_a_build_replaces_its_own_suite_and_no_other(tmp_path):
    path = tmp_path / "w.duckdb"
    wide = filled_store(tmp_path / "store", cells(), suite="wide")
    build_warehouse(wide.store, wide.graph, path)
    narrow = filled_store(tmp_path / "store", cells(ranks=(2,)), suite="narrow")
    build_warehouse(narrow.store, narrow.graph, path)
    before = query(path, "SELECT * FROM facts ORDER BY ALL")
    assert query(path, "SELECT suite, count(*) FROM cells GROUP BY 1 ORDER BY 1") == [("narrow", 9), ("wide", 18)]

    build_warehouse(narrow.store, narrow.graph, path)
    assert query(path, "SELECT * FROM facts ORDER BY ALL") == before

    smaller = narrow.graph.only(narrow.graph.cells[:1])
    build_warehouse(narrow.store, smaller, path)
    build_warehouse(wide.store, type(wide.graph)("wide", smaller.tasks, smaller.cells), path)
    assert query(path, "SELECT suite, count(*) FROM cells GROUP BY 1 ORDER BY 1") == [("narrow", 1), ("wide", 1)]
    assert query(path, "SELECT count(*) FROM tasks") == [(len(smaller.tasks),)]
    assert query(path, "SELECT count(*) FROM facts WHERE key NOT IN (SELECT key FROM cell_tasks)") == [(0,)]


def test_a_reader_keeps_its_file_while_another_is_built(tmp_path):
    path = tmp_path / "w.duckdb"
    filler = filled_store(tmp_path / "store", cells(), finished=2)
    build_warehouse(filler.store, filler.graph, path)
    with duckdb.connect(path, read_only=True) as reader:
        filler.finish(filler.graph.cells[2])
        build_warehouse(filler.store, filler.graph, path)
        assert reader.execute("SELECT count(*) FROM cells WHERE state = 'finished'").fetchone() == (2,)
    assert query(path, "SELECT count(*) FROM cells WHERE state = 'finished'") == [(3,)]


def test_a_failed_build_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "out" / "w.duckdb"
    filler = filled_store(tmp_path / "store", cells())
    build_warehouse(filler.store, filler.graph, path)
    before = path.read_bytes()
    torn = next(filler.store.root.glob("artefacts/*/*/facts.parquet"))
    os.truncate(torn, 40)
    with pytest.raises(CorruptArtefact, match="facts"):
        build_warehouse(filler.store, filler.graph, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["w.duckdb"]


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path):
    path = tmp_path / "w.duckdb"
    path.write_text("not a database" * 100)
    filler = filled_store(tmp_path / "store", cells(ranks=(2,)), finished=1)
    with pytest.raises(StoreFault, match="delete the file") as caught:
        build_warehouse(filler.store, filler.graph, path)
    assert "\n" not in str(caught.value)
    assert path.read_text().startswith("not a database")


def test_an_empty_graph_and_facts_that_are_nan_are_kept(tmp_path):
    path = tmp_path / "w.duckdb"
    filler = filled_store(tmp_path / "store", cells(ranks=(2,)), finished=0)
    filler.psnr_of = lambda cell, secret: float("nan")
    filler.finish(filler.graph.cells[0])
    build_warehouse(filler.store, filler.graph, path)
    assert np.isnan([value for (value,) in query(path, "SELECT value FROM facts WHERE name = 'psnr'")]).all()
    build_warehouse(filler.store, type(filler.graph)(filler.graph.suite, {}, ()), path)
    assert query(path, "SELECT count(*) FROM facts") == [(0,)]


@pytest.mark.slow
def test_a_million_facts_are_gathered(tmp_path):
    filler = filled_store(tmp_path / "store", cells(), finished=None)
    keys = [cell.tasks["score"] for cell in filler.graph.cells]
    for key in keys:
        file = filler.store.path(key) / "facts.parquet"
        table = parquet.read_table(file)
        parquet.write_table(pa.concat_tables([table] * (1 + 1_000_000 // len(keys) // len(table))), file)
    build_warehouse(filler.store, filler.graph, tmp_path / "w.duckdb")
    assert query(tmp_path / "w.duckdb", "SELECT count(*) FROM facts")[0][0] > 1_000_000

"""Warehouses built from synthetic stores."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.suite import LabelledCell
from benchmark.warehouse import build_warehouse
from bridge_core import spec as s
from tests.synthetic_store import Filler, cells, filled_store, text_cells

BRIDGES = (s.Projection(), s.RowMmse(), s.Ridge(), s.Mlp(), s.Direct(), s.Oracle())


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every bridge at two ranks, three seeds, three secrets: all done."""
    folder = tmp_path_factory.mktemp("store")
    filler = filled_store(folder / "store", cells(bridges=BRIDGES))
    build_warehouse(filler.store, filler.graph, folder / "w.duckdb")
    return folder / "w.duckdb"


@pytest.fixture(scope="session")
def text_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text: two recipes and bridges at two ranks, three seeds, four secrets, the last without a mark: all done."""
    folder = tmp_path_factory.mktemp("store")
    recipes = (s.Recipe(), s.Recipe(optimiser=s.AdamW(), steps=2))
    filler = filled_store(folder / "store", text_cells(recipes=recipes))
    build_warehouse(filler.store, filler.graph, folder / "w.duckdb")
    return folder / "w.duckdb"


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Build a warehouse of `labelled` cells, of which `finished` are done; `change` may alter the filler first."""

    def built(
        labelled: list[LabelledCell],
        finished: int | None = None,
        change: Callable[[Filler], None] | None = None,
        suite: str = "synthetic",
        failed: int = 0,
    ) -> Path:
        filler = filled_store(tmp_path / "store", labelled, suite=suite, finished=0)
        if change:
            change(filler)
        for planned in filler.graph.cells[:finished]:
            filler.finish(planned)
        causes = {cell.id: "Diverged" for cell in filler.graph.cells[len(filler.graph.cells) - failed :]}
        build_warehouse(filler.store, filler.graph, tmp_path / "w.duckdb", causes)
        return tmp_path / "w.duckdb"

    return built

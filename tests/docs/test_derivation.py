"""The derivation notebook: its outputs are those of its sources, and its claims still hold."""

from pathlib import Path

import nbformat
import pytest

from tests.docs.execute import ROOT, SEAL, execute, read, source_digest

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_of_these_sources(path: Path) -> None:
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.get(SEAL) == source_digest(notebook), "edited since it was executed: run `make format`"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "display_data" in kinds and "error" not in kinds
    nbformat.validate(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path) -> None:
    """Every cell asserts what it shows."""
    execute(read(path))


def test_a_broken_claim_is_noticed() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert False, 'claim'")])
    with pytest.raises(Exception, match="claim"):
        execute(notebook)


def test_there_is_a_notebook() -> None:
    assert "derivation" in [path.stem for path in NOTEBOOKS]

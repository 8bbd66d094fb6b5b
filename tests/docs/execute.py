"""Execute a notebook in place: `python -m tests.docs.execute docs/derivation.ipynb`."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SEAL = "executed_source"
"""Key in the notebook's metadata: digest of the sources that made the stored outputs."""


def read(path: Path) -> Any:
    """The notebook as stored."""
    return nbformat.read(path, as_version=4)


def source_digest(notebook: Any) -> str:
    """SHA-256 over all cells' kinds and sources."""
    return hashlib.sha256(repr([(cell.cell_type, cell.source) for cell in notebook.cells]).encode()).hexdigest()


def execute(notebook: Any) -> Any:
    """Run all cells in a fresh kernel at the project's root. Raises `CellExecutionError` where one fails."""
    return NotebookClient(
        notebook, timeout=300, record_timing=False, resources={"metadata": {"path": str(ROOT)}}
    ).execute()


def main(paths: list[Path]) -> None:
    """Execute each notebook and store its outputs."""
    for path in paths:
        notebook = execute(read(path))
        for cell in notebook.cells:
            if cell.cell_type == "code":  # warnings of libraries name folders of this machine
                cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        notebook.metadata[SEAL] = source_digest(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])

"""Paper tables and figures, read from the DuckDB file alone.

`write_report` writes files, `markdown_report` returns text for a terminal; what a user can cause is a `ReportError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.errors import ReportError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMATS", "ReportError", "markdown_report", "write_report"]

FORMATS = ("latex", "md", "csv")


def write_report(
    warehouse: Path, suite: str, out: Path, formats: tuple[str, ...] = FORMATS, partial: bool = False
) -> list[Path]:
    """Write the tables and figures of `suite` into the folder `out`; the files written, in order.

    With `partial`, cells without a result are left out and marked (`2/3 seeds`). Raises `ReportError` where they are
    missing without it, and for a warehouse, suite or format that is not there.
    """
    from reports.composition import write

    return write(warehouse, suite, out, formats, partial)


def markdown_report(warehouse: Path, suite: str, partial: bool = False) -> str:
    """The tables of `suite` as Markdown, columns aligned. Raises `ReportError` as `write_report` does."""
    from reports.composition import as_markdown

    return as_markdown(warehouse, suite, partial)

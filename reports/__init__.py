"""Paper tables and figures, read from the DuckDB file alone.

`write_report` writes files, `markdown_report` returns text for a terminal, `check_report` holds committed files against
the store, `compare_reports` two reports against one another, and `write_paper` makes a paper's skeleton of all suites.
What a user can cause is a `ReportError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.errors import ReportError

if TYPE_CHECKING:
    from pathlib import Path

    from reports.against import Comparison

__all__ = [
    "FORMATS",
    "ReportError",
    "check_report",
    "compare_reports",
    "markdown_report",
    "write_paper",
    "write_report",
]

FORMATS = ("latex", "md", "html", "csv")


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


def check_report(warehouse: Path, suite: str, out: Path, partial: bool = False) -> list[str]:
    """Where the tables in `out` are not what the store says now: one line a file; none where all match.

    Raises `ReportError` as `write_report` does, and where `out` holds no table.
    """
    from reports.checking import check

    return check(warehouse, suite, out, partial)


def compare_reports(warehouse: Path, suite: str, other: str, out: Path, partial: bool = False) -> Comparison:
    """Every number of `suite` beside that of `other`: a store, a folder with a report, or a commit that has `out`.

    Raises `ReportError` as `write_report` does, and where `other` is none of these.
    """
    from reports.against import compare
    from reports.composition import csv_texts
    from reports.other_side import csv_texts_of

    return compare(csv_texts_of(other, suite, out), csv_texts(warehouse, suite, partial))


def write_paper(warehouse: Path, suites: tuple[str, ...], out: Path, partial: bool = False) -> list[Path]:
    """Write a paper's skeleton with the tables and figures of `suites`, of all in the warehouse where none is named.

    Raises `ReportError` as `write_report` does.
    """
    from reports.paper import write

    return write(warehouse, suites, out, partial)

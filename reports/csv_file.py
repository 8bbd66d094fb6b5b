"""Tables as CSV: one line an entry, numbers in full, nothing that a spreadsheet would run."""

import csv
import io
from collections.abc import Iterator

from reports.table import Entry, Table

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def escape(text: str) -> str:
    """`text` as a spreadsheet shows it and never runs it: an apostrophe before what could be a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_STARTS) else text


def csv_text(table: Table) -> str:
    """The table as CSV with a header; a measure that was not taken is empty, NaN is `nan`."""
    told = table.declaration
    measured = [f"{name}_{part}" for name in told.measures for part in ("mean", "half_width", "interval_over")]
    counted = ["num_seeds", "planned_seeds", "num_units"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*told.blocks, *told.sections, *told.rows, "role", told.spread.column, *measured, *counted])
    for block in table.blocks:
        for line in block.lines:
            names = (*block.heading.values(), *line.section, *line.names, line.role)
            for value, entry in line.entries.items():
                writer.writerow([*map(escape, (*names, value)), *_numbers(entry)])
    return text.getvalue()


def _numbers(entry: Entry) -> Iterator[str]:
    for one in entry.estimates.values():
        if one is None:
            yield from ("", "", "")
        elif one.half_width is None:
            yield from (repr(one.mean), "", "")
        else:
            yield from (repr(one.mean), repr(one.half_width), one.over)
    yield from (str(entry.finished_seeds), str(entry.planned_seeds), str(entry.num_units))

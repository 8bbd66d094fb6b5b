"""A table as print has it: headers, texts of every entry, notes. Nothing is escaped yet: that is the writer's part."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reports.declaration import Declaration
from reports.legend import Knobs, legend_notes
from reports.reading import Standing
from reports.sources import Source, Sources
from reports.table import Block, Entry, Line, Table

OTHER_INTERVAL = "†"


class Bold(str):
    """A text to be set in bold: the best of its column, and what is not significantly worse."""


@dataclass(frozen=True)
class PrintedEntry:
    """What stands in one column of a row; empty where nothing was measured."""

    mean: str = ""
    half_width: str = ""
    mark: str = ""
    """Behind the interval, where it is over other things than the others'."""
    seeds: str = ""
    """`2/3 seeds` where some are not in."""
    source: Source | None = None
    bold: bool = False

    @property
    def text(self) -> str:
        """The entry as plain text: `18.75 ± 1.24† (2/3 seeds)`."""
        interval = f" ± {self.half_width}{self.mark}" if self.half_width else ""
        text = f"{self.mean}{interval}{f' ({self.seeds})' if self.seeds else ''}".strip()
        return Bold(text) if self.bold else text


@dataclass(frozen=True)
class PrintedLine:
    """One row: texts of the naming columns and n, then the entries."""

    names: tuple[str, ...]
    entries: tuple[PrintedEntry, ...]
    role: str
    opens_section: bool
    """The first row of a recipe and knowledge, where the block has rows above it."""


@dataclass(frozen=True)
class PrintedBlock:
    """Rows under one heading."""

    heading: str
    lines: tuple[PrintedLine, ...]


@dataclass(frozen=True)
class Layout:
    """A whole table."""

    name: str
    title: str
    caption: str
    name_headers: tuple[str, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    """Header of a group of columns, and the headers of its columns."""
    blocks: tuple[PrintedBlock, ...]
    notes: tuple[str, ...]


def lay_out(
    table: Table, standing: Standing, legend: Mapping[str, Mapping[str, Knobs]], sources: Sources | None = None
) -> Layout:
    """The texts of `table`. `legend`: axis -> label -> knobs; `sources`: what its numbers stand on."""
    told = table.declaration
    measures = tuple(measure.header for measure in told.measures.values())
    return Layout(
        name=table.name,
        title=told.title,
        caption=told.caption,
        name_headers=(*told.rows.values(), *told.sections.values(), "n"),
        groups=tuple((told.spread.header.replace("{}", value), measures) for value in table.spread),
        blocks=tuple(
            PrintedBlock(_heading(table, block), tuple(_lines(table, block, sources))) for block in table.blocks
        ),
        notes=tuple(_notes(table, standing, legend)),
    )


def number(value: float, decimals: int) -> str:
    """A number with `decimals`, never with the sign of a zero; `nan` and `inf` by name."""
    if not math.isfinite(value):
        return str(value)
    return f"{value if round(value, decimals) else 0.0:.{decimals}f}"


def count(line: Line) -> str:
    """Seeds × units behind the row's numbers, as ranges where its entries differ; empty where there are none."""
    measured = [entry for entry in line.entries.values() if any(entry.estimates.values())]
    if not measured:
        return ""
    seeds = [max(one.num_seeds for one in entry.estimates.values() if one) for entry in measured]
    return f"{_range(seeds)} × {_range(entry.num_units for entry in measured)}"


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]}–{found[-1]}"


def _heading(table: Table, block: Block) -> str:
    headers = table.declaration.blocks
    return ", ".join(f"{headers[column]} {value}" for column, value in block.heading.items())


def _lines(table: Table, block: Block, sources: Sources | None) -> Iterator[PrintedLine]:
    mixed = len({one.over for one in table.estimates() if one.half_width is not None}) > 1
    above: Line | None = None
    for line in block.lines:
        entries = tuple(
            printed
            for value in table.spread
            for printed in _entries(
                table,
                line.entries.get(value),
                sources.of(table.declaration, block, line, value) if sources else None,
                mark_units=mixed,
            )
        )
        opens = above is not None and above.section != line.section
        yield PrintedLine((*line.names, *line.section, count(line)), entries, line.role, opens)
        above = line


def _entries(table: Table, entry: Entry | None, source: Source | None, mark_units: bool) -> Iterator[PrintedEntry]:
    for place, (name, measure) in enumerate(table.declaration.measures.items()):
        one = entry.estimates[name] if entry else None
        lacking = entry is not None and place == 0 and entry.finished_seeds < entry.planned_seeds
        seeds = f"{entry.finished_seeds}/{entry.planned_seeds} seeds" if entry and lacking else ""
        if entry is None or one is None:
            yield PrintedEntry(seeds=seeds)
            continue
        width = number(one.half_width, measure.decimals) if measure.interval and one.half_width is not None else ""
        mark = OTHER_INTERVAL if width and mark_units and one.over == "units" else ""
        yield PrintedEntry(number(one.mean, measure.decimals), width, mark, seeds, source, bold=name in entry.best)


def _notes(table: Table, standing: Standing, legend: Mapping[str, Mapping[str, Knobs]]) -> Iterator[str]:
    told = table.declaration
    yield from (" ".join(note.split()) for note in told.notes)
    yield f"n: seeds × {told.units}."
    yield from _interval_notes(table)
    yield from _bold_notes(table)
    if table.absent_controls:
        yield f"Controls that this suite has not run: {', '.join(table.absent_controls)}."
    if standing.finished < standing.cells:
        yield (
            f"Partial: {standing.finished} of {standing.cells} cells have a result "
            f"({standing.pending} pending, {standing.failed} failed); 2/3 seeds: two of three are in."
        )
    for axis in told.legend:
        header = _legend_header(told, axis)
        shown = {label for block in table.blocks for label in _shown(block, table, axis)}
        yield from legend_notes(
            header, {label: legend[axis][label] for label in legend.get(axis, {}) if label in shown}
        )


def _legend_header(told: Declaration, axis: str) -> str:
    spread = {told.spread.column: told.spread.header.replace("{}", "").strip(" :") or axis}
    return (spread | told.sections | told.blocks | told.rows).get(axis, axis).capitalize()


def _interval_notes(table: Table) -> Iterator[str]:
    if not any(measure.interval for measure in table.declaration.measures.values()):
        return
    over = {one.over for one in table.estimates() if one.half_width is not None}
    units = table.declaration.units
    if "seeds" in over:
        yield "±: 95 % t interval over the means of seeds."
    if "units" in over:
        mark = f"{OTHER_INTERVAL}: " if "seeds" in over else "±: "
        yield f"{mark}95 % t interval over the {units} of the one seed; it says nothing of other seeds."


def _bold_notes(table: Table) -> Iterator[str]:
    if not any(measure.better for measure in table.declaration.measures.values()):
        return
    units = table.declaration.units
    if any(entry.best for entry in table.entries()):
        yield (
            "Bold: the best of a column within its group of rows, the bound left out, and every row that is not "
            f"significantly worse on the same {units} (Wilcoxon signed-rank test, Holm's correction, 5 %)."
        )
    else:
        yield f"Nothing is bold: no column has enough pairs of {units} for a test at 5 %, or rows to compare."


def _shown(block: Block, table: Table, axis: str) -> Iterator[str]:
    """Labels of `axis` that the block shows."""
    if axis == table.declaration.spread.column:
        yield from table.spread
    if axis in block.heading:
        yield block.heading[axis]
    for place, column in enumerate(table.declaration.sections):
        if column == axis:
            yield from (line.section[place] for line in block.lines)

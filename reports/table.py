"""A table before it is print: blocks of rows, whose entries are estimates."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from reports.declaration import Declaration, Definition
from reports.estimate import Estimate, estimate, median_estimate, sum_estimate
from reports.reading import Row
from reports.significance import Paired, not_worse

ROLES = ("control", "result", "bound")
STATISTICS = {"mean": estimate, "median": median_estimate, "sum": sum_estimate}


@dataclass(frozen=True)
class Entry:
    """What stands at a row under a value of the spread: an estimate for each measure, None where not measured."""

    estimates: Mapping[str, Estimate | None]
    finished_seeds: int
    planned_seeds: int
    num_units: int
    """Units (secrets) of a seed; the fewest where seeds differ."""
    paired: Mapping[str, Paired] = field(default_factory=dict[str, Paired])
    """Of the measures that rows are compared by: seed and unit -> value."""
    best: frozenset[str] = frozenset()
    """Measures by which no row is significantly better than this one."""


@dataclass(frozen=True)
class Line:
    """A row of a block."""

    names: tuple[str, ...]
    section: tuple[str, ...]
    role: str
    entries: Mapping[str, Entry]
    """By value of the spread."""


@dataclass(frozen=True)
class Block:
    """Rows under one heading: column of the declaration -> its value."""

    heading: Mapping[str, str]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A declared table with its numbers."""

    name: str
    declaration: Declaration
    spread: tuple[str, ...]
    """Values of the spread, in order."""
    blocks: tuple[Block, ...]

    @property
    def absent_controls(self) -> tuple[str, ...]:
        """Controls that the declaration wants and the suite did not run."""
        present = {name for block in self.blocks for line in block.lines for name in line.names} | set(self.spread)
        return tuple(control for control in self.declaration.controls if control not in present)

    def entries(self) -> Iterable[Entry]:
        """All entries."""
        return (entry for block in self.blocks for line in block.lines for entry in line.entries.values())

    def estimates(self) -> Iterable[Estimate]:
        """All numbers."""
        return (one for entry in self.entries() for one in entry.estimates.values() if one is not None)


def build_table(definition: Definition, rows: Sequence[Row]) -> Table:
    """The table of a query's rows; `reports.declaration` says what columns they have."""
    told = definition.declaration
    spread = _ordered(rows, (told.spread.column,))
    blocks = tuple(
        Block(dict(zip(told.blocks, heading, strict=True)), tuple(_lines(told, inside)))
        for heading, inside in _ordered(rows, tuple(told.blocks)).items()
    )
    return Table(definition.name, told, tuple(value for (value,) in spread), blocks)


def _lines(told: Declaration, rows: Sequence[Row]) -> Iterable[Line]:
    for section, of_section in _ordered(rows, tuple(told.sections)).items():
        lines: list[Line] = []
        for names, of_line in _ordered(of_section, tuple(told.rows)).items():
            entries = {
                value: _entry(told, of_entry) for (value,), of_entry in _ordered(of_line, (told.spread.column,)).items()
            }
            lines.append(Line(names, section, min((row["role"] for row in of_line), key=ROLES.index), entries))
        yield from _with_best(told, lines)


def _with_best(told: Declaration, lines: Sequence[Line]) -> Iterable[Line]:
    """The lines of one section with the best of each column told; a bound is none, since no attacker has it."""
    best: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    values = {value for line in lines for value in line.entries}
    for measure, value in product((name for name, one in told.measures.items() if one.better), sorted(values)):
        family = {
            str(place): line.entries[value].paired[measure]
            for place, line in enumerate(lines)
            if line.role != "bound" and value in line.entries
        }
        for place in not_worse(family, told.measures[measure].better == "higher"):
            best[int(place), value].add(measure)
    for place, line in enumerate(lines):
        marked = {value: replace(entry, best=frozenset(best[place, value])) for value, entry in line.entries.items()}
        yield replace(line, entries=marked)


def _entry(told: Declaration, rows: Sequence[Row]) -> Entry:
    finished = {row["seed"] for row in rows if row["finished"]}
    units: defaultdict[int, int] = defaultdict(int)
    values: dict[str, defaultdict[int, list[float]]] = {name: defaultdict(list) for name in told.measures}
    for row in rows:
        present = {name: row[name] for name in told.measures if row[name] is not None}
        for name, value in present.items():
            values[name][row["seed"]].append(float(value))
        units[row["seed"]] += int(row["num_units"] or 0) if present else 0
    return Entry(
        estimates={name: STATISTICS[told.measures[name].statistic](found) for name, found in values.items()},
        finished_seeds=len(finished),
        planned_seeds=len({row["seed"] for row in rows}),
        num_units=min((count for count in units.values() if count), default=0),
        paired={name: _by_unit(rows, name) for name, one in told.measures.items() if one.better},
    )


def _by_unit(rows: Sequence[Row], measure: str) -> Paired:
    return {(row["seed"], str(row["unit"])): float(row[measure]) for row in rows if row[measure] is not None}


def _ordered(rows: Sequence[Row], columns: tuple[str, ...]) -> dict[tuple[str, ...], list[Row]]:
    """`rows` by the values of `columns`: controls first, then by position, then by name with its numbers as numbers."""
    groups: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple("" if row[column] is None else str(row[column]) for column in columns)].append(row)

    def place(names: tuple[str, ...]) -> tuple[int, float, list[tuple[int, str]]]:
        inside = groups[names]
        role = min(ROLES.index(row["role"]) for row in inside)
        return role, min(float(row["position"]) for row in inside), _natural(" ".join(names))

    return {names: groups[names] for names in sorted(groups, key=place)}


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text) if part]

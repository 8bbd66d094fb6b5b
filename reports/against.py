"""Two reports, number by number: old, new, difference."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.csv_file import escape as csv_escape
from reports.markdown import escape, plain_table

MEAN = "_mean"
NOT_NAMES = ("role", "num_seeds", "planned_seeds", "num_units")
DIGITS = 6
"""Significant, in print; the CSV file has all."""


@dataclass(frozen=True)
class Difference:
    """One number of a table. None where a side has not measured it."""

    table: str
    place: str
    """Its row and column, in words."""
    measure: str
    old: float | None
    new: float | None

    @property
    def same(self) -> bool:
        """Whether both sides say the same; NaN is the same as NaN."""
        if self.old is None or self.new is None:
            return self.old is self.new
        return self.old == self.new or (math.isnan(self.old) and math.isnan(self.new))

    @property
    def change(self) -> float | None:
        """New less old."""
        return None if self.old is None or self.new is None else self.new - self.old


@dataclass(frozen=True)
class Comparison:
    """All numbers of two reports, in the order of the new one."""

    numbers: tuple[Difference, ...]

    @property
    def changed(self) -> tuple[Difference, ...]:
        """Those that differ."""
        return tuple(one for one in self.numbers if not one.same)

    def markdown(self) -> str:
        """What differs, as a table; and how much is the same."""
        told = f"{len(self.numbers) - len(self.changed)} of {len(self.numbers)} numbers are the same."
        if not self.changed:
            return f"{told}\n"
        headers = ("table", "row and column", "measure", "old", "new", "difference")
        rows = [
            (one.table, one.place, one.measure, *map(_printed, (one.old, one.new, one.change))) for one in self.changed
        ]
        table = "\n".join(plain_table([[escape(text) for text in row] for row in (headers, *rows)], left=3))
        return f"{told} These differ:\n\n{table}\n"

    def csv(self) -> str:
        """All numbers in full, the same ones too."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("table", "row_and_column", "measure", "old", "new", "difference"))
        for one in self.numbers:
            names = map(csv_escape, (one.table, one.place, one.measure))
            writer.writerow([*names, *("" if x is None else repr(x) for x in (one.old, one.new, one.change))])
        return text.getvalue()


def compare(old: Mapping[str, str], new: Mapping[str, str]) -> Comparison:
    """`old` and `new`: table -> its CSV."""
    return Comparison(tuple(one for table in dict.fromkeys((*new, *old)) for one in _of_table(table, old, new)))


def _of_table(table: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Difference]:
    before, after = _numbers(old.get(table, "")), _numbers(new.get(table, ""))
    for place, measure in dict.fromkeys((*after, *before)):
        yield Difference(table, place, measure, before.get((place, measure)), after.get((place, measure)))


def _numbers(text: str) -> dict[tuple[str, str], float | None]:
    """Place and measure -> its value."""
    reader = csv.DictReader(io.StringIO(text))
    columns: Sequence[str] = reader.fieldnames or ()
    measures = [name.removesuffix(MEAN) for name in columns if f"{name.removesuffix(MEAN)}_half_width" in columns]
    measures = list(dict.fromkeys(name for name in measures if f"{name}{MEAN}" in columns))
    parts = {f"{name}_{part}" for name in measures for part in ("mean", "half_width", "interval_over")}
    names = [name for name in columns if name not in parts and name not in NOT_NAMES]
    found: dict[tuple[str, str], float | None] = {}
    for row in reader:
        place = ", ".join(f"{name} {row[name]}" for name in names if row[name])
        found |= {(place, name): _value(row[f"{name}{MEAN}"]) for name in measures}
    return found


def _value(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _printed(value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS}g}"

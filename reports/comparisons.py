"""The table of comparisons: along every axis, the best value against each other one, on the same secrets."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.csv_file import escape
from reports.layout import Layout, PrintedBlock, PrintedEntry, PrintedLine, number
from reports.reading import Reader, Row
from reports.significance import LEVEL, Comparison, Unit, best_of, compare

NAME = "comparisons"
AXES = ("bridge", "inversion", "prior", "rank", "recipe", "defence", "knowledge", "model")
"""Axes along which values meet the same secrets; a data set has secrets of its own."""
HELD = (*AXES, "dataset")
BOUND, MEAN_IMAGE = "oracle", "mean image"
TITLE = "Comparisons on the same secrets"
CAPTION = (
    "Along every axis of the suite, all others held: the best value against each other one, on the same secrets. "
    "Mean difference over the pairs."
)
NOTES = (
    "n: pairs, each a secret of a seed. Pairs of one seed share the adapter's start; the test does not know it.",
    "Interval: 95 %, bootstrap of the mean difference (BCa). p: Wilcoxon signed-rank test, two-sided, exact up to 50 "
    "pairs; Holm: adjusted for all comparisons with the same best value. The best was chosen on the same secrets.",
    "A dash: no interval, where all differences are one value or infinite. Fewer than six pairs can never reach 5 %.",
    "The oracle, which no attacker has, is left out. Mean image: the proxy data's mean in place of a reconstruction.",
)


@dataclass(frozen=True)
class Compared:
    """One comparison and where it was made."""

    axis: str
    best: str
    other: str
    held: dict[str, str]
    """The values of all other axes."""
    measure: str
    found: Comparison


def find_comparisons(reader: Reader) -> list[Compared]:
    """All comparisons of the suite; none where no axis has two values on the same secrets."""
    rows = reader.rows("FROM compared ORDER BY position, seed, secret")
    return [one for axis in AXES for one in _along(axis, rows)]


def _along(axis: str, rows: Sequence[Row]) -> Iterator[Compared]:
    groups: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] != BOUND:
            held = tuple(str(row[name]) for name in HELD if name != axis)
            groups[(*held, str(row["num_samples"]), str(row["measure"]))].append(row)
    for place, inside in groups.items():
        family = _family(axis, inside)
        best = best_of(family) if len(family) > 1 else None
        if best is not None:
            held = dict(zip((name for name in HELD if name != axis), place, strict=False))
            for other, found in compare(family, best).items():
                yield Compared(axis, best, other, held, place[-1], found)


def _family(axis: str, rows: Sequence[Row]) -> dict[str, dict[Unit, float]]:
    """Value of the axis -> its secrets; beside bridges the mean image, which every one of them has to beat."""
    family: defaultdict[str, dict[Unit, float]] = defaultdict(dict)
    for row in rows:
        unit = (int(row["seed"]), str(row["secret"]))
        if row["value"] is not None:
            family[str(row[axis])][unit] = float(row["value"])
        if axis == "bridge" and row["control"] is not None:
            family[MEAN_IMAGE][unit] = float(row["control"])
    return dict(family)


def lay_out_comparisons(compared: Sequence[Compared]) -> Layout:
    """The table, a block an axis; of the values held, those that the suite varies."""
    varied = {name for one in compared for name in one.held if len({each.held.get(name) for each in compared}) > 1}
    varied -= {name for name in HELD if len({one.held[name] for one in compared if name in one.held}) < 2}
    headings = dict.fromkeys((one.axis, one.measure) for one in compared)
    blocks = [
        PrintedBlock(
            f"{axis} compared by {measure}",
            tuple(_line(one, varied) for one in compared if (one.axis, one.measure) == (axis, measure)),
        )
        for axis, measure in headings
    ]
    return Layout(
        name=NAME,
        title=TITLE,
        caption=CAPTION,
        name_headers=("Best", "Against", "Where", "n"),
        groups=(("best less other", ("mean", "95 % interval", "p", "Holm")),),
        blocks=tuple(blocks),
        notes=NOTES,
    )


def _line(one: Compared, varied: set[str]) -> PrintedLine:
    where = ", ".join(f"{name} {value}" for name, value in one.held.items() if name in varied) or "everywhere"
    found, decimals = one.found, 2
    interval = "—" if found.low is None or found.high is None else _between(found.low, found.high, decimals)
    texts = (number(found.mean, decimals), interval, _p(found.p), _p(found.adjusted))
    entries = tuple(map(PrintedEntry, texts))
    return PrintedLine((one.best, one.other, where, str(found.num_pairs)), entries, "result", opens_section=False)


def _between(low: float, high: float, decimals: int) -> str:
    return f"{number(low, decimals)} to {number(high, decimals)}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def comparisons_csv(compared: Sequence[Compared]) -> str:
    """One line a comparison, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ("num_pairs", "mean_difference", "low", "high", "p", "p_holm", f"significant_at_{LEVEL:g}")
    writer.writerow(["axis", "best", "other", *HELD, "measure", *numbers])
    for one in compared:
        names = (one.axis, one.best, one.other, *(one.held.get(name, "") for name in HELD), one.measure)
        found = one.found
        ends = ["" if end is None else repr(end) for end in (found.low, found.high)]
        tested = [repr(found.p), repr(found.adjusted), str(found.significant).lower()]
        writer.writerow([*map(escape, names), found.num_pairs, repr(found.mean), *ends, *tested])
    return text.getvalue()

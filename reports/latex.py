"""Tables as LaTeX: booktabs, plain pdflatex. Every text is escaped on its way in, unless it is `Markup` of our own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from reports.figure import Figure
from reports.layout import Bold, Layout, PrintedBlock, PrintedEntry, PrintedLine
from reports.reading import Standing
from reports.siunitx import column_types, number_text
from reports.sources import KEY_DIGITS, Source

if TYPE_CHECKING:
    from jinja2 import Environment

LINES_A_FLOAT = 38
"""Rows of one table float: more are carried over to a further one."""
MOST_KEYS = 24
"""Of a number's runs in a comment: TeX reads no endless lines."""
UNBROKEN = 12
"""Letters of a word that stay together."""
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"\textasciigrave{}",
    "-": r"-{}",
    "–": r"\textendash{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "√": r"$\surd$",
    "†": r"$^\dagger$",
    "·": r"$\cdot$",
}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
LIGATURE = re.compile(r"([',])(?=\1)")
"""Signs that T1 fonts join with the next one."""
NOT_NAMEABLE = re.compile(r"[^A-Za-z0-9]+")


class Markup(str):
    """LaTeX of our own, written as it stands; every other text is escaped on its way into a template."""


@dataclass(frozen=True)
class Float:
    """One table float: some blocks of the layout."""

    label: Markup
    continued: bool
    last: bool
    blocks: tuple[PrintedBlock, ...]


def escape(text: object) -> str:
    """`text` as LaTeX that prints it letter by letter; signs that pdflatex has no glyph for as `[U+4E2D]`."""
    if isinstance(text, Markup):
        return str(text)
    written = LIGATURE.sub(r"\1{}", "".join(_letter(letter) for letter in CONTROL.sub(" ", str(text))))
    return rf"\textbf{{{written}}}" if isinstance(text, Bold) else written


def breakable(word: str) -> Markup:
    """`word` as `escape` prints it, in pieces between which a line may end."""
    letters = CONTROL.sub(" ", word)
    pieces = (letters[start : start + UNBROKEN] for start in range(0, len(letters), UNBROKEN))
    return Markup(r"\allowbreak{}".join(map(_piece, pieces)))


def _piece(letters: str) -> str:
    """Some letters; each that is printed as its number may end a line."""
    return escape(letters) if letters.isascii() else r"\allowbreak{}".join(map(escape, letters))


def label_of(suite: str, name: str) -> Markup:
    """The label of a float."""
    return Markup(f"tab:{_slug(suite)}-{_slug(name)}")


def _letter(letter: str) -> str:
    if letter in SPECIAL:
        return SPECIAL[letter]
    # The letters of Latin-1 are in every T1 font; its other signs are not.
    plain = letter.isascii() or (letter <= "ÿ" and letter.isalpha() and letter not in "ªº")
    return letter if plain else f"[U+{ord(letter):04X}]"


def _slug(text: str) -> str:
    """`text` as a part of a label."""
    return NOT_NAMEABLE.sub("-", text).strip("-") or "x"


def latex(layout: Layout, suite: str, standing: Standing) -> str:
    """The table as one or more floats, to be read into a document with booktabs, siunitx, graphicx and T1 fonts."""
    lines = [line for block in layout.blocks for line in block.lines]
    types = column_types([line.entries for line in lines])
    names = len(layout.name_headers)
    values = {
        "layout": layout,
        "floats": list(_floats(layout, label_of(suite, layout.name))),
        "specification": Markup("l" * (names - 1) + "r" + "".join(types)),
        "width": names + len(types),
        "header": list(_header(layout)),
        "provenance": provenance(suite, standing),
        "columns": [group for group, headers in layout.groups for _ in headers],
    }
    return render("table.tex.j2", values)


def document(suite: str, standing: Standing, tables: Sequence[str], figures: Sequence[Figure]) -> str:
    """A document of its own that shows the files `tables` and all figures."""
    values = {
        "suite": suite,
        "standing": standing,
        "tables": [Markup(table) for table in tables],
        "figures": [
            {
                "file": Markup(f"{figure.name}.pdf"),
                "caption": figure.caption,
                "label": Markup(f"fig:{_slug(suite)}-{_slug(figure.name)}"),
            }
            for figure in figures
        ],
        "provenance": provenance(suite, standing),
    }
    return render("report.tex.j2", values)


def provenance(suite: str, standing: Standing) -> Markup:
    """Comment lines that say what a file was made from."""
    keys = [key[:KEY_DIGITS] for key in standing.score_keys]
    lines = [
        f"Suite: {CONTROL.sub(' ', suite)}",
        f"Cells: {standing.finished} of {standing.cells} with a result",
        f"Score artefacts in the store, by the first {KEY_DIGITS} digits of their keys:",
        *(f"  {' '.join(keys[start : start + 8])}" for start in range(0, len(keys), 8)),
    ]
    return Markup("\n".join(f"% {line}" for line in lines))


def _floats(layout: Layout, label: str) -> Iterator[Float]:
    rest: list[list[PrintedBlock]] = [[]]
    room = LINES_A_FLOAT
    for block in _pieces(layout.blocks):
        if len(block.lines) > room and rest[-1]:
            rest.append([])
            room = LINES_A_FLOAT
        rest[-1].append(block)
        room -= len(block.lines) + 1
    for number, blocks in enumerate(rest, start=1):
        name = Markup(label if number == 1 else f"{label}-{number}")
        yield Float(name, number > 1, number == len(rest), tuple(blocks))


def _pieces(blocks: Sequence[PrintedBlock]) -> Iterator[PrintedBlock]:
    """Blocks, those longer than a float in pieces."""
    for block in blocks:
        for start in range(0, len(block.lines), LINES_A_FLOAT):
            yield PrintedBlock(block.heading, block.lines[start : start + LINES_A_FLOAT])


def _header(layout: Layout) -> Iterator[Markup]:
    """One row of headers, or two where columns have headers of their own under those of their groups."""
    columns = [name for _, names in layout.groups for name in names]
    if not any(columns):
        yield _row((*layout.name_headers, *(_braced(header) for header, _ in layout.groups)))
        return
    groups, rules, first = [""] * len(layout.name_headers), "", len(layout.name_headers) + 1
    for header, names in layout.groups:
        last = first + len(names) - 1
        groups.append(Markup(rf"\multicolumn{{{len(names)}}}{{c}}{{{escape(header)}}}"))
        rules, first = rf"{rules}\cmidrule(lr){{{first}-{last}}}", last + 1
    yield _row(groups)
    yield Markup(rules)
    yield _row((*layout.name_headers, *map(_braced, columns)))


def _braced(text: str) -> Markup:
    """A header of a column of numbers: braces keep siunitx from reading it."""
    return Markup(f"{{{escape(text)}}}")


def _row(texts: Iterable[str]) -> Markup:
    return Markup(rf"{' & '.join(map(escape, texts))} \\")


def _line(line: PrintedLine) -> Markup:
    """A row of the table; a number stands as siunitx reads it, anything else in braces."""
    return _row((*line.names, *map(_entry, line.entries)))


def _entry(entry: PrintedEntry) -> Markup:
    behind = f"{entry.mark if entry.half_width else ''}{f' ({entry.seeds})' if entry.seeds else ''}"
    found = number_text(entry)
    if not found:
        return Markup(f"{{{escape(entry.text)}}}" if entry.text else "")
    found = rf"\bfseries {found}" if entry.bold else found
    return Markup(f"{found} {{{escape(behind)}}}" if behind else found)


def _stands_on(line: PrintedLine, columns: Sequence[str]) -> Markup:
    """A comment: for the numbers of each group the hash of their source, and its runs by their score artefacts."""
    told: dict[str, str] = {}
    for column, entry in zip(columns, line.entries, strict=True):
        if entry.source:
            told.setdefault(CONTROL.sub(" ", column), f"{entry.source.digest} <- {_keys(entry.source)}")
    return Markup("".join(f"    % {column}: {source}\n" for column, source in told.items()))


def _keys(source: Source) -> str:
    shown = " ".join(run.key[:KEY_DIGITS] for run in source.runs[:MOST_KEYS])
    further = len(source.runs) - MOST_KEYS
    return f"{shown} and {further} more of those above" if further > 0 else shown


def render(template: str, values: Mapping[str, object]) -> str:
    """A template of the package; texts among `values` are escaped unless they are `Markup`."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        undefined=StrictUndefined,
        finalize=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = cast("dict[str, object]", environment.filters)
    filters |= {"row": _row, "line": _line, "stands_on": _stands_on}
    return environment

"""Tables as Markdown, columns aligned, so that they read well as plain text too."""

import re
from collections.abc import Iterator, Sequence

from reports.layout import Bold, Layout, PrintedBlock

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")


def escape(text: str) -> str:
    """`text` as Markdown that shows it letter by letter: no markup, no HTML, no line break."""
    written = SPECIAL.sub(r"\\\1", CONTROL.sub(" ", text))
    return f"**{written}**" if isinstance(text, Bold) else written


def markdown(layout: Layout) -> str:
    """The whole table: title, caption, one Markdown table a block, notes."""
    parts = [f"## {escape(layout.title)}", escape(layout.caption)]
    for block in layout.blocks:
        parts += [f"**{escape(_heading(layout, block))}**", "\n".join(_table(layout, block))]
    parts.append("\n".join(f"- {escape(note)}" for note in layout.notes))
    return "\n\n".join(parts) + "\n"


def _heading(layout: Layout, block: PrintedBlock) -> str:
    """The block's, with the group's where all columns are of one group."""
    return f"{block.heading}, {layout.groups[0][0]}" if _is_one_group(layout) else block.heading


def _is_one_group(layout: Layout) -> bool:
    return len(layout.groups) == 1 and all(layout.groups[0][1])


def _headers(layout: Layout) -> tuple[str, ...]:
    alone = _is_one_group(layout)
    columns = (name if alone else f"{group} {name}".strip() for group, names in layout.groups for name in names)
    return (*layout.name_headers, *columns)


def _table(layout: Layout, block: PrintedBlock) -> Iterator[str]:
    rows = [
        [escape(text) for text in row]
        for row in (_headers(layout), *((*line.names, *(each.text for each in line.entries)) for line in block.lines))
    ]
    return plain_table(rows, left=len(layout.name_headers) - 1)


def plain_table(rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """The lines of a table, the first of `rows` its header; the first `left` columns stand on the left."""
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    yield _row(rows[0], widths, left)
    rules = ("-" * (width + 2) if i < left else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    yield f"|{'|'.join(rules)}|"
    for row in rows[1:]:
        yield _row(row, widths, left)


def _row(texts: Sequence[str], widths: Sequence[int], left: int) -> str:
    """One line; the first `left` columns stand on the left, numbers on the right."""
    padded = [t.ljust(w) if i < left else t.rjust(w) for i, (t, w) in enumerate(zip(texts, widths, strict=True))]
    return f"| {' | '.join(padded)} |"

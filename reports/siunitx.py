"""Numbers as siunitx reads them, and columns that align them at the decimal point and the interval's sign."""

from collections.abc import Iterable, Iterator, Sequence

from reports.layout import PrintedEntry

MARK_SPACE = r"\textsuperscript{\textdagger}"


def number_text(entry: PrintedEntry) -> str:
    r"""`18.75 \pm 1.24`; empty where the entry is no number (`nan`, not measured, seeds alone)."""
    if not _is_number(entry.mean):
        return ""
    return rf"{entry.mean} \pm {entry.half_width}" if _is_number(entry.half_width) else entry.mean


def column_types(rows: Sequence[Sequence[PrintedEntry]]) -> list[str]:
    """A column type for each column of `rows`: `S[table-format=3.2(3)]`, with room for what stands behind a number."""
    return [_column_type(column) for column in zip(*rows, strict=True)]


def _column_type(entries: Iterable[PrintedEntry]) -> str:
    found = [entry for entry in entries if _is_number(entry.mean)]
    if not found:
        return "c"
    whole = max(len(entry.mean.lstrip("-").partition(".")[0]) for entry in found)
    decimals = max(len(entry.mean.partition(".")[2]) for entry in found)
    sign = "-" if any(entry.mean.startswith("-") for entry in found) else ""
    widths = [len(entry.half_width.replace(".", "")) for entry in found if _is_number(entry.half_width)]
    spread = f"({max(widths)})" if widths else ""
    point = f".{decimals}" if decimals else ""
    return f"S[table-format={sign}{whole}{point}{spread}{''.join(_behind(found))}]"


def _behind(entries: Sequence[PrintedEntry]) -> Iterator[str]:
    mark = any(entry.mark for entry in entries)
    seeds = max((entry.seeds for entry in entries), key=len, default="")
    if mark or seeds:
        yield f",table-space-text-post={{{MARK_SPACE if mark else ''}{f' ({seeds})' if seeds else ''}}}"


def _is_number(text: str) -> bool:
    return bool(text) and text.lstrip("-").replace(".", "", 1).isdecimal()

"""A report: tables and figures of one suite, as files or as text."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reports import FORMATS
from reports.comparisons import comparisons_csv, find_comparisons, lay_out_comparisons
from reports.csv_file import csv_text
from reports.declaration import load_definitions
from reports.errors import ReportError
from reports.figure import Figure
from reports.latex import document, latex
from reports.layout import Layout, lay_out
from reports.markdown import escape, markdown
from reports.reading import RUN_AGAIN, Reader, Standing, open_warehouse
from reports.sentence_examples import NAME as SENTENCES
from reports.sentence_examples import examples_latex, examples_markdown, find_examples
from reports.table import Table, build_table


@dataclass(frozen=True)
class Printed:
    """A table with its texts."""

    layout: Layout
    csv: str
    table: Table | None = None
    """Where the table is a declared one: what figures are drawn from."""


def write(warehouse: Path, suite: str, out: Path, formats: tuple[str, ...], partial: bool) -> list[Path]:
    """As `reports.write_report` says."""
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        found = f"no format {unknown[0]!r}" if unknown else "no format"
        raise ReportError(found, f"some of {', '.join(FORMATS)}", exit_code=2)
    with open_warehouse(warehouse, suite) as reader:
        standing = _checked(reader, partial)
        printed = list(_tables(reader, standing))
        try:
            out.mkdir(parents=True, exist_ok=True)
            return list(_files(reader, standing, printed, out, formats))
        except OSError as fault:
            raise ReportError(f"{out}: {fault.strerror or fault}", "a folder that can be written") from fault


def as_markdown(warehouse: Path, suite: str, partial: bool) -> str:
    """As `reports.markdown_report` says."""
    with open_warehouse(warehouse, suite) as reader:
        standing = _checked(reader, partial)
        return "\n".join(markdown(one.layout) for one in _tables(reader, standing))


def _checked(reader: Reader, partial: bool) -> Standing:
    standing = reader.standing()
    missing = standing.pending + standing.failed
    counted = f"{missing} of {standing.cells} cells of suite {reader.suite!r} have no result"
    if not standing.finished:
        raise ReportError(counted, "one at least", RUN_AGAIN)
    if missing and not partial:
        counted = f"{counted} ({standing.pending} pending, {standing.failed} failed)"
        raise ReportError(counted, "all", f"{RUN_AGAIN}, or give --partial")
    return standing


def _tables(reader: Reader, standing: Standing) -> Iterator[Printed]:
    """All tables for which the suite has rows."""
    legend = reader.legend()
    for definition in load_definitions():
        if rows := reader.rows(definition.sql):
            table = build_table(definition, rows)
            yield Printed(lay_out(table, standing, legend), csv_text(table), table)
    if compared := find_comparisons(reader):
        yield Printed(lay_out_comparisons(compared), comparisons_csv(compared))


def _files(
    reader: Reader, standing: Standing, printed: list[Printed], out: Path, formats: tuple[str, ...]
) -> Iterator[Path]:
    if "csv" in formats:
        for one in printed:
            yield _written(out / f"{one.layout.name}.csv", one.csv)
    figures: list[Figure] = []
    if "latex" in formats or "md" in formats:
        for figure, paths in _draw(reader, printed, out):
            figures.append(figure)
            yield from paths
    examples = find_examples(reader) if "latex" in formats or "md" in formats else None
    if "latex" in formats:
        for one in printed:
            yield _written(out / f"{one.layout.name}.tex", latex(one.layout, reader.suite, standing))
        names = [one.layout.name for one in printed]
        if examples:
            yield _written(out / f"{SENTENCES}.tex", examples_latex(examples, reader.suite, standing))
            names.append(SENTENCES)
        yield _written(out / "report.tex", document(reader.suite, standing, names, figures))
    if "md" in formats:
        for one in printed:
            yield _written(out / f"{one.layout.name}.md", markdown(one.layout))
        texts = [markdown(one.layout) for one in printed]
        if examples:
            texts.append(examples_markdown(examples))
            yield _written(out / f"{SENTENCES}.md", texts[-1])
        yield _written(out / "report.md", _overview(reader.suite, standing, texts, figures))


def _draw(reader: Reader, printed: list[Printed], out: Path) -> Iterator[tuple[Figure, list[Path]]]:
    from reports.psnr_figure import draw_psnr
    from reports.reconstruction_figure import draw_reconstructions
    from reports.text_figure import draw_tokens

    yield from draw_reconstructions(reader, out)
    tables = {one.table.name: one.table for one in printed if one.table}
    if "bridges_by_rank" in tables:
        yield draw_psnr(tables["bridges_by_rank"], out)
    if "text_certificates" in tables and (drawn := draw_tokens(tables["text_certificates"], out)):
        yield drawn


def _overview(suite: str, standing: Standing, texts: list[str], figures: list[Figure]) -> str:
    shown = [f"![{escape(figure.caption)}]({figure.name}.png)\n\n{escape(figure.caption)}" for figure in figures]
    parts = [
        f"# {escape(suite)}",
        f"{standing.finished} of {standing.cells} cells have a result.",
        *(text.rstrip() for text in texts),
        *shown,
    ]
    return "\n\n".join(parts) + "\n"


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path

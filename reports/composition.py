"""A report: tables and figures of one suite, as files or as text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

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
from reports.sentence_examples import Examples, examples_latex, examples_markdown, find_examples
from reports.sources import read_sources
from reports.table import Table, build_table

FIGURE_FORMATS = {"latex", "md"}
"""Formats beside which figures lie as files; a page of HTML has them inside."""
PAGE = "report.html"


@dataclass(frozen=True)
class Printed:
    """A table with its texts."""

    layout: Layout
    csv: str
    table: Table | None = None
    """Where the table is a declared one: what figures are drawn from."""


@dataclass(frozen=True)
class Shown:
    """What a document shows of a suite."""

    standing: Standing
    printed: list[Printed]
    figures: list[Figure]
    folder: Path
    """Where the figures were drawn."""
    examples: Examples | None


def write(warehouse: Path, suite: str, out: Path, formats: tuple[str, ...], partial: bool) -> list[Path]:
    """As `reports.write_report` says."""
    check_formats(formats)
    with open_warehouse(warehouse, suite) as reader:
        standing = checked(reader, partial)
        printed = list(_tables(reader, standing))
        try:
            out.mkdir(parents=True, exist_ok=True)
            return list(_files(reader, standing, printed, out, formats))
        except OSError as fault:
            raise ReportError(f"{out}: {fault.strerror or fault}", "a folder that can be written") from fault


def check_formats(formats: tuple[str, ...]) -> None:
    """Raise `ReportError` where one of `formats` is none, or there is none."""
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        found = f"no format {unknown[0]!r}" if unknown else "no format"
        raise ReportError(found, f"some of {', '.join(FORMATS)}", exit_code=2)


def csv_texts(warehouse: Path, suite: str, partial: bool) -> dict[str, str]:
    """Table -> its CSV, numbers in full."""
    with open_warehouse(warehouse, suite) as reader:
        return {one.layout.name: one.csv for one in _tables(reader, checked(reader, partial))}


def table_texts(warehouse: Path, suite: str, formats: tuple[str, ...], partial: bool) -> dict[str, str]:
    """Name of a file -> its text, for the tables alone."""
    with open_warehouse(warehouse, suite) as reader:
        standing = checked(reader, partial)
        printed = list(_tables(reader, standing))
        return {name: text for kind in formats for name, text in _texts(reader, standing, printed, kind).items()}


def as_markdown(warehouse: Path, suite: str, partial: bool) -> str:
    """As `reports.markdown_report` says."""
    with open_warehouse(warehouse, suite) as reader:
        standing = checked(reader, partial)
        return "\n".join(markdown(one.layout) for one in _tables(reader, standing))


def checked(reader: Reader, partial: bool) -> Standing:
    """The suite's standing; raises `ReportError` where cells are missing, unless `partial` and some are there."""
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
    legend, sources = reader.legend(), read_sources(reader)
    for definition in load_definitions():
        if rows := reader.rows(definition.sql):
            table = build_table(definition, rows)
            yield Printed(lay_out(table, standing, legend, sources), csv_text(table), table)
    if compared := find_comparisons(reader):
        yield Printed(lay_out_comparisons(compared), comparisons_csv(compared))


def _files(
    reader: Reader, standing: Standing, printed: list[Printed], out: Path, formats: tuple[str, ...]
) -> Iterator[Path]:
    for kind in ("csv", "latex", "md"):
        if kind in formats:
            for name, text in _texts(reader, standing, printed, kind).items():
                yield _written(out / name, text)
    if set(formats) == {"csv"}:
        return
    with TemporaryDirectory(prefix="bridge-") as aside:
        folder = out if FIGURE_FORMATS & set(formats) else Path(aside)
        drawn = list(_draw(reader, printed, folder))
        if folder == out:
            yield from (path for _, paths in drawn for path in paths)
        shown = Shown(standing, printed, [figure for figure, _ in drawn], folder, find_examples(reader))
        for name, text in _documents(reader, shown, formats):
            yield _written(out / name, text)


def _documents(reader: Reader, shown: Shown, formats: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The files that show everything at once, and the examples of sentences; name and text."""
    suite, standing, examples = reader.suite, shown.standing, shown.examples
    if "latex" in formats:
        names = [one.layout.name for one in shown.printed]
        if examples:
            yield f"{SENTENCES}.tex", examples_latex(examples, suite, standing)
            names.append(SENTENCES)
        yield "report.tex", document(suite, standing, names, shown.figures)
    if "md" in formats:
        texts = [markdown(one.layout) for one in shown.printed]
        if examples:
            texts.append(examples_markdown(examples))
            yield f"{SENTENCES}.md", texts[-1]
        yield "report.md", _overview(suite, standing, texts, shown.figures)
    if "html" in formats:
        yield PAGE, _page(reader, shown)


def _texts(reader: Reader, standing: Standing, printed: list[Printed], kind: str) -> Mapping[str, str]:
    """Name of a file -> its text, of all tables in one format; none of HTML, which is one page."""
    match kind:
        case "csv":
            return {f"{one.layout.name}.csv": one.csv for one in printed}
        case "latex":
            return {f"{one.layout.name}.tex": latex(one.layout, reader.suite, standing) for one in printed}
        case "md":
            return {f"{one.layout.name}.md": markdown(one.layout) for one in printed}
        case _:
            return {}


def _page(reader: Reader, shown: Shown) -> str:
    from reports.gallery import galleries
    from reports.page import Content, inlined, page
    from reports.reconstruction_figure import NAME as PICTURES

    drawn = (inlined(figure, shown.folder) for figure in shown.figures if not figure.name.startswith(PICTURES))
    return page(
        Content(
            suite=reader.suite,
            standing=shown.standing,
            layouts=[one.layout for one in shown.printed],
            figures=[one for one in drawn if one],
            galleries=list(galleries(reader)),
            examples=shown.examples,
            runs=read_sources(reader).runs,
        )
    )


def _draw(reader: Reader, printed: list[Printed], out: Path) -> Iterator[tuple[Figure, list[Path]]]:
    from reports.certificate_figure import draw_certificates
    from reports.module_figure import draw_modules
    from reports.privacy_figure import draw_privacy
    from reports.psnr_figure import draw_psnr
    from reports.reconstruction_figure import draw_reconstructions
    from reports.text_figure import draw_tokens

    yield from draw_reconstructions(reader, out)
    tables = {one.table.name: one.table for one in printed if one.table}
    if "bridges_by_rank" in tables:
        yield draw_psnr(tables["bridges_by_rank"], out)
    drawings = (
        ("modules", draw_modules),
        ("defences", draw_privacy),
        ("text_certificates", draw_tokens),
        ("text_certificates", draw_certificates),
    )
    for name, draw in drawings:
        if name in tables and (drawn := draw(tables[name], out)):
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

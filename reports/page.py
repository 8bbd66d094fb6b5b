"""The report as one HTML page: no file beside it, nothing fetched, every text escaped, no script but our own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from reports.figure import Figure
from reports.layout import Layout
from reports.sources import LABELS, Run, Source

if TYPE_CHECKING:
    from jinja2 import Environment

    from reports.gallery import Gallery
    from reports.reading import Standing
    from reports.sentence_examples import Examples

MOST_LINKS = 48
"""Runs that a source links to; it tells how many more there are."""
REFERENCES = re.compile(r'(\bid="|href="#|url\(#)')
PROLOGUE = re.compile(r"\A.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)


@dataclass(frozen=True)
class Drawn:
    """A figure as the page has it."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Content:
    """All that a page shows of a suite."""

    suite: str
    standing: Standing
    layouts: Sequence[Layout]
    figures: Sequence[Drawn]
    galleries: Sequence[Gallery]
    examples: Examples | None
    runs: Sequence[Run]


def page(content: Content) -> str:
    """The whole page."""
    made_with, surroundings = _surroundings(content.runs)
    script = _text("page.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            suite=content.suite,
            standing=content.standing,
            layouts=content.layouts,
            figures=content.figures,
            galleries=content.galleries,
            examples=content.examples,
            runs=content.runs,
            sources=_shared_sources(content.layouts),
            labels=LABELS,
            made_with=made_with,
            surroundings=surroundings,
            anchor=anchor,
            headers=headers,
            most_links=MOST_LINKS,
            style=_text("page.css"),
            script=script,
            script_hash=_digest(f"\n{script}"),
        )
    )


def anchor(source: Source) -> str:
    """Where the page tells of a source: its only run, or the list of its runs."""
    return f"run-{source.runs[0].cell_id}" if len(source.runs) == 1 else f"source-{source.digest}"


def headers(layout: Layout) -> tuple[str, ...]:
    """The headers of all columns; a group's where its columns have none."""
    columns = (name or group for group, names in layout.groups for name in names)
    return (*layout.name_headers, *columns)


def inlined(figure: Figure, folder: Path) -> Drawn | None:
    """A figure drawn into `folder`, its ids made the page's own; None where it has no SVG."""
    path = folder / f"{figure.name}.svg"
    if not path.is_file():
        return None
    svg = PROLOGUE.sub("", path.read_text("utf-8"))
    own = REFERENCES.sub(rf"\g<1>{figure.name}-", svg)
    return Drawn(figure.name, figure.caption, own.replace("<svg ", f'<svg aria-label="{figure.name}" ', 1))


def _shared_sources(layouts: Iterable[Layout]) -> list[Source]:
    found = {
        entry.source.digest: entry.source
        for layout in layouts
        for block in layout.blocks
        for line in block.lines
        for entry in line.entries
        if entry.source and len(entry.source.runs) > 1
    }
    return list(found.values())


def _surroundings(runs: Sequence[Run]) -> tuple[Mapping[str, str], list[tuple[str, str]]]:
    """Cell -> name of the libraries that it was made with; and what each name stands for."""
    told: dict[str, str] = {}
    made_with: dict[str, str] = {}
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        made_with[run.cell_id] = told.setdefault(versions, f"V{len(told) + 1}")
    return made_with, [(name, versions) for versions, name in told.items()]


def _text(name: str) -> str:
    return (files("reports") / "templates" / name).read_text("utf-8")


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

"""A paper's skeleton: its sections, and all tables and figures of the suites, ready for pdflatex."""

import re
from pathlib import Path

from reports.composition import write as write_suite
from reports.errors import ReportError
from reports.latex import Markup, provenance, render
from reports.reading import RUN_AGAIN, open_warehouse, suites_of

PAPER = "paper.tex"
INPUT = re.compile(r"^\\input\{([^}]+)\}", re.MULTILINE)
FIGURE = re.compile(r"\\begin\{figure\}.*?\\end\{figure\}", re.DOTALL)
GRAPHICS = re.compile(r"\\includegraphics\{([^}]+)\}")


def write(warehouse: Path, suites: tuple[str, ...], out: Path, partial: bool) -> list[Path]:
    """As `reports.write_paper` says."""
    chosen = suites or tuple(suites_of(warehouse))
    if not chosen:
        raise ReportError(f"no suite in {warehouse}", "one that was run", RUN_AGAIN, exit_code=2)
    written: list[Path] = []
    parts: list[dict[str, object]] = []
    for number, suite in enumerate(chosen, start=1):
        folder = f"{number:02d}-{re.sub(r'[^A-Za-z0-9]+', '-', suite).strip('-') or 'suite'}"
        written += write_suite(warehouse, suite, out / folder, ("latex",), partial)
        parts.append(_part(warehouse, suite, out, folder))
    path = out / PAPER
    path.write_text(render("paper.tex.j2", {"parts": parts}), encoding="utf-8")
    return [*written, path]


def _part(warehouse: Path, suite: str, out: Path, folder: str) -> dict[str, object]:
    """What the paper shows of a suite: the tables and figures of its own document."""
    document = (out / folder / "report.tex").read_text("utf-8")
    with open_warehouse(warehouse, suite) as reader:
        standing = reader.standing()
    figures = (GRAPHICS.sub(rf"\\includegraphics{{{folder}/\1}}", one) for one in FIGURE.findall(document))
    return {
        "suite": suite,
        "standing": standing,
        "tables": [Markup(f"{folder}/{name}") for name in INPUT.findall(document)],
        "figures": [Markup(one) for one in figures],
        "provenance": provenance(suite, standing),
    }

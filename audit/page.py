"""The report as one HTML page: its style and pictures are in it, and it loads nothing."""

import math
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from audit.report import ModuleRow, Report, Severity
from audit.terminal import STATUS, counted

MOST_BARS = 400
TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Bar:
    """One module in the picture of ranks and norms."""

    name: str
    filled: float
    """Rank of B over the adapter's, 0 to 1."""
    change: float
    """|B| |A| over the largest, 0 to 1."""
    told: str


def as_page(report: Report) -> str:
    """The page. Every word out of the adapter is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files("audit").joinpath("templates", TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report, bars=_bars(report.modules), counted=counted(report), status=STATUS, severities=list(Severity)
    )


def _bars(rows: tuple[ModuleRow, ...]) -> list[Bar]:
    step = max(1, math.ceil(len(rows) / MOST_BARS))
    chosen = rows[::step]
    largest = max((row.norm_a * row.norm_b for row in chosen), default=0.0) or 1.0
    return [_bar(row, largest) for row in chosen]


def _bar(row: ModuleRow, largest: float) -> Bar:
    told = f"{row.name}: rank of B {row.rank_of_b} of {row.rank}, |A| {row.norm_a:.3g}, |B| {row.norm_b:.3g}"
    return Bar(row.name, row.rank_of_b / row.rank, row.norm_a * row.norm_b / largest, told)

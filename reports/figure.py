"""What all figures share: their look on paper, and how they are written."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TEXT_WIDTH = 6.6
"""Inches: a page of both columns, with margins of 2 cm on A4."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, told apart by colour-blind readers."""
MARKERS = ("s", "^", "D", "v", "P", "X", "h")
GREY = "#707070"
STYLE: dict[str, Any] = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "bridge",
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Figure:
    """A drawn figure: the name of its files without ending, and what it shows."""

    name: str
    caption: str


@contextmanager
def paper_style() -> Generator[None]:
    """The look of a paper, without a window system."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    with matplotlib.rc_context(cast(Any, STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def plain(text: str) -> str:
    """`text` in one line, without signs that steer a terminal or a renderer."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def save(canvas: Canvas, folder: Path, name: str) -> list[Path]:
    """Write `canvas` as PDF, SVG and PNG, the same bytes for the same drawing."""
    from matplotlib import pyplot

    pdf, svg, png = (folder / f"{name}.{kind}" for kind in ("pdf", "svg", "png"))
    canvas.savefig(pdf, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    canvas.savefig(svg, metadata={"Date": None, "Creator": None})
    canvas.savefig(png, dpi=200, metadata={"Software": None})
    pyplot.close(canvas)
    return [pdf, svg, png]

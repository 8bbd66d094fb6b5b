"""What an adapter is good for against what it tells: a panel a recipe with several defences, a mark a defence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.estimate import Estimate
from reports.figure import COLOURS, GREY, MARKERS, TEXT_WIDTH, Figure, paper_style, plain, save
from reports.table import Entry, Line, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "privacy_utility"
COLUMNS = 2
PANEL_HEIGHT = 2.3
"""Inches."""
Point = tuple[Estimate, Estimate]
"""Gain in nats, PSNR."""


def draw_privacy(table: Table, folder: Path) -> tuple[Figure, list[Path]] | None:
    """Draw the table `defences`; None where no recipe has two defences with numbers."""
    from matplotlib import pyplot

    panels = _panels(table)
    if not panels:
        return None
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(name for points in panels.values() for name in points))
    with paper_style():
        size = (min(TEXT_WIDTH, 2.9 * columns + 1.6), PANEL_HEIGHT * rows + 0.3)
        canvas, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (title, points) in zip(axes.flat, panels.items(), strict=False):
            _draw_panel(axis, title, points, names)
        handles = {handle.get_label(): handle for axis in axes.flat for handle in axis.get_legend_handles_labels()[0]}
        canvas.legend(handles.values(), handles.keys(), frameon=False, loc="outside right center")
        paths = save(canvas, folder, NAME)
    caption = (
        "What the published adapter gains on held-out private images, against what the attack gets: lower right "
        "is better. Bars: 95 % t intervals. Dashed: the mean image of the proxy data, and no gain."
    )
    return Figure(NAME, caption), paths


def _panels(table: Table) -> dict[str, dict[str, Point]]:
    """Title -> defence -> its point, of recipes that were defended in more than one way."""
    panels: dict[str, dict[str, Point]] = {}
    for block in table.blocks:
        for line in block.lines:
            for value, entry in line.entries.items():
                if point := _point(entry):
                    title = _title(table, block.heading.values(), line, value)
                    panels.setdefault(title, {})[line.names[0]] = point
    return {title: points for title, points in panels.items() if len(points) > 2}


def _title(table: Table, heading: Any, line: Line, value: str) -> str:
    many = [*heading] if len(table.blocks) > 1 else []
    spread = [table.declaration.spread.header.replace("{}", value)] if len(table.spread) > 1 else []
    return ", ".join([*line.section, *many, *spread])


def _point(entry: Entry) -> Point | None:
    gain, psnr = entry.estimates["gain"], entry.estimates["psnr"]
    if gain is None or psnr is None or not math.isfinite(gain.mean) or not math.isfinite(psnr.mean):
        return None
    return gain, psnr


def _draw_panel(axis: Axes, title: str, points: dict[str, Point], names: list[str]) -> None:
    for name, (gain, psnr) in points.items():
        if name == "nothing published":
            axis.axhline(psnr.mean, color=GREY, linestyle="--", zorder=1)
            axis.axvline(0.0, color=GREY, linestyle="--", zorder=1)
            continue
        place = names.index(name)
        axis.errorbar(
            [gain.mean],
            [psnr.mean],
            xerr=[gain.half_width or 0],
            yerr=[psnr.half_width or 0],
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            linestyle="",
            elinewidth=0.5,
            label=plain(name),
        )
    axis.set_title(plain(title))
    axis.set_xlabel("gain on held-out images (nats)")
    axis.set_ylabel("PSNR of the attack (dB)")

"""Cosine by module: a panel a block of the table `modules`, a row a module, a mark a bridge, controls grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.figure import COLOURS, GREY, MARKERS, TEXT_WIDTH, Figure, paper_style, plain, save
from reports.table import Block, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "cosine_by_module"
COLUMNS, MOST_PANELS, MOST_MODULES = 2, 6, 30
ROW_HEIGHT, FRAME_HEIGHT = 0.14, 0.45
"""Inches: of a module, and of a panel's title and axis."""
CONTROL_MARKS = ("|", "o", "x")


def draw_modules(table: Table, folder: Path) -> tuple[Figure, list[Path]] | None:
    """Draw the table `modules`; the figure and its files, None where nothing of it was measured."""
    from matplotlib import pyplot

    blocks = [block for block in table.blocks if _points(block, table.spread)][:MOST_PANELS]
    if not blocks:
        return None
    columns = min(COLUMNS, len(blocks))
    rows = math.ceil(len(blocks) / columns)
    tallest = max(min(MOST_MODULES, len(block.lines)) for block in blocks)
    with paper_style():
        size = (TEXT_WIDTH, rows * (tallest * ROW_HEIGHT + FRAME_HEIGHT) + 0.35)
        canvas, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, layout="constrained")
        for axis in axes.flat[len(blocks) :]:
            axis.set_axis_off()
        for axis, block in zip(axes.flat, blocks, strict=False):
            _draw_panel(axis, block, table)
        for axis in axes[-1]:
            axis.set_xlabel("cosine with the true gradient")
        handles = {handle.get_label(): handle for axis in axes.flat for handle in axis.get_legend_handles_labels()[0]}
        below: dict[str, Any] = {"loc": "outside lower center", "ncols": min(8, len(handles) or 1), "frameon": False}
        canvas.legend(handles.values(), handles.keys(), columnspacing=1.2, handletextpad=0.5, **below)
        paths = save(canvas, folder, NAME)
    return Figure(NAME, _caption(table, blocks)), paths


def _points(block: Block, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """Bridge or control -> place of the module and cosine."""
    points = {
        name: [
            (place, one.mean)
            for place, line in enumerate(block.lines[:MOST_MODULES])
            if name in line.entries and (one := line.entries[name].estimates["cosine"]) and math.isfinite(one.mean)
        ]
        for name in names
    }
    return {name: found for name, found in points.items() if found}


def _draw_panel(axis: Axes, block: Block, table: Table) -> None:
    controls = table.declaration.controls
    results = [name for name in table.spread if name not in controls]
    for name, points in _points(block, table.spread).items():
        if name in controls:
            look: dict[str, Any] = {"marker": CONTROL_MARKS[controls.index(name) % len(CONTROL_MARKS)], "color": GREY}
        else:
            place = results.index(name)
            look = {"marker": MARKERS[place % len(MARKERS)], "color": COLOURS[place % len(COLOURS)]}
        places, cosines = zip(*points, strict=True)
        axis.plot(cosines, places, linestyle="", label=plain(name), clip_on=False, **look)
    modules = [plain(line.names[0]) for line in block.lines[:MOST_MODULES]]
    axis.set_yticks(range(len(modules)), modules)
    axis.set_ylim(len(modules) - 0.5, -0.5)
    axis.grid(axis="y", linewidth=0.3, alpha=0.5)
    axis.set_title(plain(_title(block, table)))


def _title(block: Block, table: Table) -> str:
    """What tells the block from the others."""
    headers = table.declaration.blocks
    varies = [name for name in block.heading if len({each.heading[name] for each in table.blocks}) > 1]
    return ", ".join(f"{headers[name]} {block.heading[name]}" for name in varies)


def _caption(table: Table, blocks: Sequence[Block]) -> str:
    headers = table.declaration.blocks
    common = [name for name in blocks[0].heading if len({each.heading[name] for each in table.blocks}) == 1]
    told = ", ".join(f"{headers[name]} {blocks[0].heading[name]}" for name in common)
    left_out = len(table.blocks) - len(blocks)
    cut = any(len(block.lines) > MOST_MODULES for block in blocks)
    return (
        f"Cosine of the decoded with the true full gradient on held-out proxy data, by module, mean over seeds"
        f"{f' ({told})' if told else ''}. Grey: floor, projection and mean gradient."
        f"{f' The first {MOST_MODULES} modules of each.' if cut else ''}"
        f"{f' {left_out} further blocks stand in the table alone.' if left_out else ''}"
    )

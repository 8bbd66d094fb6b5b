"""PSNR by rank: a panel a block of the first table, a line a bridge, the mean image as a dashed line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reports.figure import COLOURS, GREY, MARKERS, TEXT_WIDTH, Figure, paper_style, save
from reports.table import Block, Line, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
PANEL_HEIGHT = 1.75
Panel = tuple[str, tuple[Line, ...]]


def draw_psnr(table: Table, folder: Path) -> tuple[Figure, list[Path]]:
    """Draw the table `bridges_by_rank`; the figure and its files."""
    from matplotlib import pyplot

    panels = [panel for block in table.blocks for panel in _panels(block)]
    bridges = list(dict.fromkeys(_bridge(line) for _, lines in panels for line in lines if not _is_control_image(line)))
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with paper_style():
        size = (min(TEXT_WIDTH, 2.6 * columns + 1.0), PANEL_HEIGHT * rows + 0.45)
        canvas, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
        for place, axis in enumerate(axes.flat):
            if place < len(panels):
                _draw_panel(axis, panels[place], {name: number for number, name in enumerate(bridges)})
            else:
                axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set_ylabel("PSNR (dB)")
        handles = {h.get_label(): h for axis in axes.flat for h in axis.get_legend_handles_labels()[0]}
        canvas.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)), frameon=False
        )
        paths = save(canvas, folder, "psnr_by_rank")
    return Figure("psnr_by_rank", _caption(table)), paths


def _panels(block: Block) -> list[Panel]:
    """The block's lines by section: a panel a recipe and knowledge."""
    sections: dict[tuple[str, ...], list[Line]] = {}
    for line in block.lines:
        sections.setdefault(line.section, []).append(line)
    return [(", ".join((*block.heading.values(), *section)), tuple(lines)) for section, lines in sections.items()]


def _draw_panel(axis: Axes, panel: Panel, order: Mapping[str, int]) -> None:
    title, lines = panel
    ranks: set[int] = set()
    for line in lines:
        points = {int(rank): one for rank, entry in line.entries.items() if (one := entry.estimates["psnr"])}
        drawn = {rank: one for rank, one in sorted(points.items()) if math.isfinite(one.mean)}
        ranks |= set(drawn)
        means = [one.mean for one in drawn.values()]
        if _is_control_image(line):
            axis.plot(list(drawn), means, color=GREY, linestyle="--", label="mean image", zorder=1)
            continue
        number = order[_bridge(line)]
        axis.errorbar(
            list(drawn),
            means,
            yerr=[one.half_width or 0 for one in drawn.values()],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markerfacecolor="white" if line.role != "result" else None,
            linestyle=":" if line.role != "result" else "-",
            capsize=1.5,
            elinewidth=0.7,
            label=_bridge(line),
        )
    axis.set_title(title)
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(ranks), [str(rank) for rank in sorted(ranks)])
    axis.minorticks_off()
    axis.set_xlabel("rank")


def _bridge(line: Line) -> str:
    return line.names[0]


def _is_control_image(line: Line) -> bool:
    return line.role == "control" and _bridge(line) == "mean image"


def _caption(table: Table) -> str:
    over = {one.over for one in table.estimates() if one.half_width is not None}
    bars = {
        frozenset({"seeds"}): "Bars: 95 % t intervals over the means of seeds.",
        frozenset({"units"}): "Bars: 95 % t intervals over the secrets of the one seed.",
    }.get(frozenset(over), "Bars: 95 % t intervals." if over else "")
    dotted = "Dashed: the mean image of the proxy data; dotted: projection and oracle."
    return f"PSNR of the reconstruction by rank. {dotted} {bars}".strip()

"""PSNR by rank: a panel a block of the first table, a line a bridge, the mean image as a dashed line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.estimate import Estimate
from reports.figure import COLOURS, GREY, MARKERS, TEXT_WIDTH, Figure, paper_style, plain, save
from reports.table import Line, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
PANEL_HEIGHT = 1.75
"""Inches."""
MEAN_IMAGE = ("mean image",)
BEYOND_MEANS = 0.35
"""How far intervals are shown, as a part of the range of means."""
ASIDE = 0.05
"""Octaves between the marks of two bridges at one rank, so that their bars do not hide one another."""
Panel = tuple[str, tuple[Line, ...]]


def draw_psnr(table: Table, folder: Path) -> tuple[Figure, list[Path]]:
    """Draw the table `bridges_by_rank`; the figure and its files."""
    from matplotlib import pyplot

    panels, common = _panels(table)
    results = list(dict.fromkeys(line.names[0] for _, lines in panels for line in lines if line.role == "result"))
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with paper_style():
        size = (min(TEXT_WIDTH, 2.6 * columns + 1.0), PANEL_HEIGHT * rows + 0.45)
        canvas, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
        for place, axis in enumerate(axes.flat):
            if place < len(panels):
                _draw_panel(axis, panels[place], results)
            else:
                axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set_ylabel("PSNR (dB)")
        axes[0, 0].set_ylim(_limits(table))
        handles = {handle.get_label(): handle for axis in axes.flat for handle in axis.get_legend_handles_labels()[0]}
        below = {"loc": "outside lower center", "ncols": min(8, len(handles) or 1)}
        places: dict[str, Any] = below if columns > 1 else {"loc": "outside right center"}
        canvas.legend(handles.values(), handles.keys(), columnspacing=1.2, handletextpad=0.5, frameon=False, **places)
        paths = save(canvas, folder, "psnr_by_rank")
    return Figure("psnr_by_rank", _caption(table, common)), paths


def _panels(table: Table) -> tuple[list[Panel], str]:
    """A panel a block and section, titled by what tells it from the others; and what is common to all."""
    told = table.declaration
    headers = (*told.blocks.values(), *(header.lower() for header in told.sections.values()))
    sections: dict[tuple[str, ...], list[Line]] = {}
    for block in table.blocks:
        for line in block.lines:
            sections.setdefault((*block.heading.values(), *line.section), []).append(line)
    varies = [len(set(values)) > 1 for values in zip(*sections, strict=True)]

    def named(values: tuple[str, ...], wanted: bool) -> str:
        triples = zip(headers, values, varies, strict=True)
        return ", ".join(f"{header} {value}" for header, value, differs in triples if differs is wanted)

    panels = [(named(values, True), tuple(lines)) for values, lines in sections.items()]
    return panels, named(next(iter(sections)), False)


def _limits(table: Table) -> tuple[float, float] | None:
    """The dB shown: all means, and intervals up to some way beyond them. Those of two seeds would drown the means."""
    shown = [one for entry in table.entries() if (one := entry.estimates["psnr"]) and math.isfinite(one.mean)]
    if not shown:
        return None
    low, high = min(one.mean for one in shown), max(one.mean for one in shown)
    margin = max(1.0, (high - low) * BEYOND_MEANS)
    lowest = min(one.mean - (one.half_width or 0) for one in shown)
    highest = max(one.mean + (one.half_width or 0) for one in shown)
    return max(lowest - 1, low - margin), min(highest + 1, high + margin)


def _draw_panel(axis: Axes, panel: Panel, results: Sequence[str]) -> None:
    title, lines = panel
    ranks: set[int] = set()
    for place, line in enumerate(lines):
        points = {int(rank): one for rank, entry in line.entries.items() if (one := entry.estimates["psnr"])}
        drawn = {rank: one for rank, one in sorted(points.items()) if math.isfinite(one.mean)}
        ranks |= set(drawn)
        if drawn and line.names == MEAN_IMAGE:
            _draw_mean_image(axis, drawn)
        elif drawn:
            aside = 2 ** (ASIDE * (place - len(lines) / 2))
            axis.errorbar(
                [rank * aside for rank in drawn],
                [one.mean for one in drawn.values()],
                yerr=[one.half_width or 0 for one in drawn.values()],
                capsize=1.5,
                elinewidth=0.7,
                label=plain(line.names[0]),
                **_look(line, results),
            )
    axis.set_title(plain(title))
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(ranks), [str(rank) for rank in sorted(ranks)])
    axis.minorticks_off()
    axis.set_xlabel("rank")


def _draw_mean_image(axis: Axes, drawn: Mapping[int, Estimate]) -> None:
    look: dict[str, Any] = {"color": GREY, "linestyle": "--", "zorder": 1, "label": MEAN_IMAGE[0]}
    if len(drawn) == 1:  # of one point, no line is seen
        axis.axhline(next(iter(drawn.values())).mean, **look)
    else:
        axis.plot(list(drawn), [one.mean for one in drawn.values()], **look)


def _look(line: Line, results: Sequence[str]) -> dict[str, Any]:
    """Results in colour; controls grey, the bound black, both with hollow marks."""
    if line.role != "result":
        colour = GREY if line.role == "control" else "black"
        return {"color": colour, "linestyle": ":", "marker": "o", "markerfacecolor": "white"}
    number = results.index(line.names[0])
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _caption(table: Table, common: str) -> str:
    over = {one.over for one in table.estimates() if one.half_width is not None}
    bars = {
        frozenset({"seeds"}): "Bars, cut at the frame: 95 % t intervals over the means of seeds.",
        frozenset({"units"}): "Bars, cut at the frame: 95 % t intervals over the secrets of the one seed.",
    }.get(frozenset(over), "Bars, cut at the frame: 95 % t intervals." if over else "")
    dotted = "Dashed: the mean image of the proxy data; dotted: projection and oracle."
    return f"PSNR of the reconstruction by rank{f' ({common})' if common else ''}. {dotted} {bars}".strip()

"""Where each route ends: the share of tokens recovered by recipe, a panel a rank, a mark a bridge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.figure import COLOURS, GREY, MARKERS, TEXT_WIDTH, Figure, paper_style, plain, save
from reports.table import Entry, Line, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "tokens_by_recipe"
MOST_COLUMNS = 4
ROW_HEIGHT, FRAME_HEIGHT, LEGEND_HEIGHT, MOST_HEIGHT = 0.16, 0.5, 0.45, 8.5
"""Inches: of a mark with its share of the gap between recipes, of a panel's title and axis, of the legend, of all."""
UNIGRAM = ("unigram",)
FILLING = 0.7
"""Of the distance between two recipes, how much their marks take."""


class Panel(NamedTuple):
    """Recipe -> its lines, at one rank."""

    title: str
    rank: str
    recipes: dict[str, list[Line]]


def draw_tokens(table: Table, folder: Path) -> tuple[Figure, list[Path]]:
    """Draw the table `text_tokens`; the figure and its files."""
    from matplotlib import pyplot

    panels, common = _panels(table)
    results = _names(panels, "result")
    columns = math.ceil(len(table.spread) / math.ceil(len(table.spread) / MOST_COLUMNS))
    rows = math.ceil(len(panels) / columns)
    with paper_style():
        size = (min(TEXT_WIDTH, 2.4 * columns + 1.4), _height(panels, rows))
        canvas, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        for place, axis in enumerate(axes.flat):
            if place < len(panels):
                on_left = panels[place - 1] if place % columns else None
                named = on_left is None or list(on_left.recipes) != list(panels[place].recipes)
                _draw_panel(axis, panels[place], results, named)
            else:
                axis.set_axis_off()
        handles = {handle.get_label(): handle for axis in axes.flat for handle in axis.get_legend_handles_labels()[0]}
        below: dict[str, Any] = {"loc": "outside lower center", "ncols": min(6, len(handles) or 1), "frameon": False}
        below |= {"title": "full: ranked first; hollow: certified", "title_fontsize": 7}
        canvas.legend(handles.values(), handles.keys(), columnspacing=1.2, handletextpad=0.5, **below)
        paths = save(canvas, folder, NAME)
    return Figure(NAME, _caption(common)), paths


def _panels(table: Table) -> tuple[list[Panel], str]:
    """A panel a block, knowledge and rank, titled by what tells it from the others; and what is common to all."""
    told = table.declaration
    recipe, knowledge = list(told.sections).index("recipe"), list(told.sections).index("knowledge")
    headers = (*told.blocks.values(), told.sections["knowledge"].lower())
    groups: dict[tuple[str, ...], dict[str, list[Line]]] = {}
    for block in table.blocks:
        for line in block.lines:
            group = groups.setdefault((*block.heading.values(), line.section[knowledge]), {})
            group.setdefault(line.section[recipe], []).append(line)
    varies = [len(set(values)) > 1 for values in zip(*groups, strict=True)]

    def named(values: tuple[str, ...], wanted: bool) -> str:
        triples = zip(headers, values, varies, strict=True)
        return ", ".join(f"{header} {value}" for header, value, differs in triples if differs is wanted)

    panels = [
        Panel(", ".join(filter(None, (named(values, True), f"rank {rank}"))), rank, recipes)
        for values, recipes in groups.items()
        for rank in table.spread
    ]
    return panels, named(next(iter(groups)), False)


def _height(panels: Sequence[Panel], rows: int) -> float:
    tallest = max(sum(map(len, panel.recipes.values())) for panel in panels)
    return min(MOST_HEIGHT, rows * (tallest * ROW_HEIGHT + FRAME_HEIGHT) + LEGEND_HEIGHT)


def _names(panels: Sequence[Panel], role: str) -> list[str]:
    lines = (line for panel in panels for lines in panel.recipes.values() for line in lines)
    return list(dict.fromkeys(line.names[0] for line in lines if line.role == role))


def _draw_panel(axis: Axes, panel: Panel, results: Sequence[str], named: bool) -> None:
    for height, lines in enumerate(panel.recipes.values()):
        marked = [line for line in lines if line.names != UNIGRAM]
        for line in lines:
            entry = line.entries.get(panel.rank)
            if entry and line.names == UNIGRAM:
                _draw_unigram(axis, entry, height)
            elif entry:
                aside = (marked.index(line) + 0.5) / len(marked) - 0.5
                _draw_bridge(axis, entry, height + FILLING * aside, _look(line, results), line.names[0])
    axis.set_title(plain(panel.title))
    axis.set_xlim(-0.03, 1.03)
    axis.set_xlabel("share of tokens")
    axis.set_ylim(len(panel.recipes) - 0.5, -0.5)
    axis.set_yticks(range(len(panel.recipes)), [plain(recipe) for recipe in panel.recipes] if named else [])
    axis.tick_params(axis="y", length=0)


def _draw_unigram(axis: Axes, entry: Entry, height: float) -> None:
    if (recall := _mean(entry, "recall_ranked")) is not None:
        ends = (height - FILLING / 2, height + FILLING / 2)
        axis.plot([recall, recall], ends, color=GREY, linestyle="--", zorder=1, label=UNIGRAM[0])


def _draw_bridge(axis: Axes, entry: Entry, height: float, look: dict[str, Any], name: str) -> None:
    """A full mark for what is ranked first, a hollow one for what is certified, and a line between."""
    ranked, certified = _mean(entry, "recall_ranked"), _mean(entry, "certified")
    if ranked is not None and certified is not None:
        axis.plot([ranked, certified], [height, height], color=look["color"], linewidth=0.6, zorder=2)
    if ranked is not None:
        axis.plot([ranked], [height], linestyle="", label=plain(name), zorder=3, **look)
    if certified is not None:
        axis.plot([certified], [height], linestyle="", zorder=4, markerfacecolor="white", **look)


def _mean(entry: Entry, measure: str) -> float | None:
    one = entry.estimates[measure]
    return one.mean if one and math.isfinite(one.mean) else None


def _look(line: Line, results: Sequence[str]) -> dict[str, Any]:
    """Results in colour; controls grey, the bound black, both round."""
    if line.role != "result":
        return {"color": GREY if line.role == "control" else "black", "marker": "o"}
    number = results.index(line.names[0])
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _caption(common: str) -> str:
    return (
        f"Where each route ends: share of the secrets' tokens recovered, by recipe and rank"
        f"{f' ({common})' if common else ''}. Full marks: tokens among the first n of the attack's ranking, n as many "
        "as the secret has; hollow: tokens certified. Dashed: the proxy's most frequent tokens, without a release. "
        "Black: the oracle, which no attacker has."
    )

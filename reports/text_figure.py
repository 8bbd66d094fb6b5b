"""Where each route ends: the share of tokens recovered, a row a recipe and rank, a mark a bridge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.figure import COLOURS, GREY, MARKERS, TEXT_WIDTH, Figure, paper_style, plain, save
from reports.table import Entry, Line, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "tokens_by_recipe"
MARK_HEIGHT, ROW_HEIGHT, FRAME_HEIGHT, LEGEND_HEIGHT, MOST_HEIGHT = 0.1, 0.1, 0.25, 0.65, 8.5
"""Inches: of a mark, of the gap between rows, of a panel's title, of what stands under all panels, of the figure."""
UNIGRAM = ("unigram",)
RING, DOT = 5.5, 2.6
"""Sizes of the marks of what is certified and of what is ranked first, so that both are seen where they meet."""


class Mark(NamedTuple):
    """One bridge in one row."""

    line: Line
    entry: Entry


class Panel(NamedTuple):
    """Recipe and rank -> marks."""

    title: str
    rows: dict[str, list[Mark]]

    @property
    def height(self) -> float:
        """Inches without title and axis."""
        return sum(ROW_HEIGHT + MARK_HEIGHT * len(_bridges(marks)) for marks in self.rows.values())


def draw_tokens(table: Table, folder: Path) -> tuple[Figure, list[Path]] | None:
    """Draw the table `text_certificates`; the figure and its files, None where nothing of it was measured."""
    from matplotlib import pyplot

    panels, common = _panels(table)
    if not panels:
        return None
    results = list(dict.fromkeys(mark.line.names[0] for mark in _marks(panels) if mark.line.role == "result"))
    heights = [panel.height for panel in panels]
    with paper_style():
        size = (TEXT_WIDTH, min(MOST_HEIGHT, sum(heights) + FRAME_HEIGHT * len(panels) + LEGEND_HEIGHT))
        canvas, axes = pyplot.subplots(
            len(panels), figsize=size, squeeze=False, sharex=True, height_ratios=heights, layout="constrained"
        )
        for axis, panel in zip(axes.flat, panels, strict=True):
            _draw_panel(axis, panel, results)
        axes[-1, 0].set_xlabel("share of tokens (small and filled: ranked first; large and hollow: certified)")
        handles = {handle.get_label(): handle for axis in axes.flat for handle in axis.get_legend_handles_labels()[0]}
        below: dict[str, Any] = {"loc": "outside lower center", "ncols": min(8, len(handles) or 1), "frameon": False}
        canvas.legend(handles.values(), handles.keys(), columnspacing=1.2, handletextpad=0.5, **below)
        paths = save(canvas, folder, NAME)
    return Figure(NAME, _caption(common)), paths


def _panels(table: Table) -> tuple[list[Panel], str]:
    """A panel a block and what is told, titled by what tells it from the others; and what is common to all."""
    told = table.declaration
    places = {column: place for place, column in enumerate(told.sections)}
    headers = (*told.blocks.values(), "told")
    groups: dict[tuple[str, ...], dict[tuple[str, str], list[Mark]]] = {}
    for block in table.blocks:
        for line in block.lines:
            row = (line.section[places["recipe"]], line.section[places["rank"]])
            for value, entry in line.entries.items():
                if any(entry.estimates.values()):
                    group = groups.setdefault((*block.heading.values(), value), {})
                    group.setdefault(row, []).append(Mark(line, entry))
    varies = [len(set(values)) > 1 for values in zip(*groups, strict=True)]
    ranks = {rank for group in groups.values() for _, rank in group}

    def named(values: tuple[str, ...], wanted: bool) -> Iterable[str]:
        triples = zip(headers, values, varies, strict=True)
        return (f"{header} {value}" for header, value, differs in triples if differs is wanted)

    panels = [
        Panel(
            ", ".join(named(values, True)),
            {recipe if len(ranks) == 1 else f"{recipe}, r = {rank}": marks for (recipe, rank), marks in group.items()},
        )
        for values, group in groups.items()
    ]
    of_all = named(next(iter(groups)), False) if groups else ()
    return panels, ", ".join((*of_all, *(f"rank {rank}" for rank in ranks if len(ranks) == 1)))


def _marks(panels: Sequence[Panel]) -> Iterable[Mark]:
    return (mark for panel in panels for marks in panel.rows.values() for mark in marks)


def _bridges(marks: Sequence[Mark]) -> list[Mark]:
    return [mark for mark in marks if mark.line.names != UNIGRAM]


def _draw_panel(axis: Axes, panel: Panel, results: Sequence[str]) -> None:
    top, middles = 0.0, list[float]()
    for marks in panel.rows.values():
        bridges = _bridges(marks)
        height = ROW_HEIGHT + MARK_HEIGHT * len(bridges)
        middles.append(top + height / 2)
        for entry in (mark.entry for mark in marks if mark.line.names == UNIGRAM):
            _draw_unigram(axis, entry, (top + 0.02, top + height - 0.02))
        for place, mark in enumerate(bridges):
            level = top + ROW_HEIGHT / 2 + MARK_HEIGHT * (place + 0.5)
            _draw_bridge(axis, mark, level, _look(mark.line, results))
        top += height
    axis.set_title(plain(panel.title))
    axis.set_xlim(-0.03, 1.03)
    axis.set_ylim(top, 0)
    axis.set_yticks(middles, [plain(row) for row in panel.rows])
    axis.tick_params(axis="y", length=0)


def _draw_unigram(axis: Axes, entry: Entry, ends: tuple[float, float]) -> None:
    if (recall := _mean(entry, "recall_ranked")) is not None:
        axis.plot([recall, recall], ends, color=GREY, linewidth=1.4, zorder=1, label=UNIGRAM[0])


def _draw_bridge(axis: Axes, mark: Mark, level: float, look: dict[str, Any]) -> None:
    """A small mark for what is ranked first, a hollow one for what is certified, and a line between."""
    ranked, certified = _mean(mark.entry, "recall_ranked"), _mean(mark.entry, "certified")
    if ranked is not None and certified is not None:
        axis.plot([ranked, certified], [level, level], color=look["color"], linewidth=0.6, zorder=2)
    if certified is not None:
        ring: dict[str, Any] = {**look, "markersize": RING, "markeredgewidth": 0.8}
        axis.plot([certified], [level], linestyle="", zorder=3, markerfacecolor="white", clip_on=False, **ring)
    if ranked is not None:
        dot: dict[str, Any] = {**look, "markersize": DOT, "label": plain(mark.line.names[0])}
        axis.plot([ranked], [level], linestyle="", zorder=4, clip_on=False, **dot)


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
        f"{f' ({common})' if common else ''}. Small filled marks: tokens among the first n of the attack's ranking, n "
        "as many as the secret has; large hollow marks: tokens certified. Grey line: the proxy's most frequent tokens, "
        "without a release. Black: the oracle, which no attacker has."
    )

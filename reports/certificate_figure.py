"""Where the certificate ends: the share of tokens that a release proves, by rank, a panel a block, a line a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reports.estimate import Estimate
from reports.figure import COLOURS, MARKERS, TEXT_WIDTH, Figure, paper_style, plain, save
from reports.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "certificate_limits"
COLUMNS, PANEL_HEIGHT = 3, 1.75
"""Panels side by side; inches."""
CONTROLS = ("unigram", "projection", "oracle")


class Line(NamedTuple):
    """One recipe, bridge and knowledge: rank -> share certified."""

    name: tuple[str, str, str]
    points: dict[int, float]


def draw_certificates(table: Table, folder: Path) -> tuple[Figure, list[Path]] | None:
    """Draw the table `text_certificates`; None where no recipe was certified at two ranks."""
    from matplotlib import pyplot

    panels = _panels(table)
    if not any(len(line.points) > 1 for lines in panels.values() for line in lines):
        return None
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    lines = [line for each in panels.values() for line in each]
    varies = [len({line.name[part] for line in lines}) > 1 for part in range(3)]
    order = list(dict.fromkeys(line.name for line in lines))
    with paper_style():
        size = (min(TEXT_WIDTH, 2.6 * columns + 1.4), PANEL_HEIGHT * rows + 0.45)
        canvas, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (title, inside) in zip(axes.flat, panels.items(), strict=False):
            _draw_panel(axis, title if len(panels) > 1 else "", inside, order, varies)
        axes[0, 0].set_ylim(-0.03, 1.03)
        for axis in axes[:, 0]:
            axis.set_ylabel("share of tokens certified")
        handles = {handle.get_label(): handle for axis in axes.flat for handle in axis.get_legend_handles_labels()[0]}
        canvas.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
        paths = save(canvas, folder, NAME)
    return Figure(NAME, _caption(table)), paths


def _panels(table: Table) -> dict[str, list[Line]]:
    """A block in words -> its lines; controls and the bound certify nothing of a release."""
    told = table.declaration
    recipe, rank = (list(told.sections).index(column) for column in ("recipe", "rank"))
    panels: dict[str, dict[tuple[str, str, str], dict[int, float]]] = {}
    for block in table.blocks:
        title = ", ".join(f"{told.blocks[column]} {value}" for column, value in block.heading.items())
        for line in (line for line in block.lines if line.names[0] not in CONTROLS):
            for value, entry in line.entries.items():
                if (share := _finite(entry.estimates["certified"])) is not None:
                    points = panels.setdefault(title, {}).setdefault((line.section[recipe], line.names[0], value), {})
                    points[int(line.section[rank])] = share
    return {title: [Line(name, points) for name, points in inside.items()] for title, inside in panels.items()}


def _finite(one: Estimate | None) -> float | None:
    return one.mean if one and math.isfinite(one.mean) else None


def _draw_panel(
    axis: Axes, title: str, lines: Sequence[Line], order: Sequence[tuple[str, str, str]], varies: Sequence[bool]
) -> None:
    ranks = sorted({rank for line in lines for rank in line.points})
    for line in lines:
        place = order.index(line.name)
        named = ", ".join(part for part, differs in zip(line.name, varies, strict=True) if differs) or line.name[0]
        points = sorted(line.points.items())
        axis.plot(
            [rank for rank, _ in points],
            [share for _, share in points],
            label=plain(named),
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            clip_on=False,
        )
    axis.set_title(plain(title))
    axis.set_xscale("log", base=2)
    axis.set_xticks(ranks, [str(rank) for rank in ranks])
    axis.minorticks_off()
    axis.set_xlabel("rank")


def _caption(table: Table) -> str:
    wrong = [one.mean for entry in table.entries() if (one := entry.estimates["false_certificates"])]
    told = f"{math.fsum(wrong):.0f} false certificates in all." if wrong and all(map(math.isfinite, wrong)) else ""
    return (
        "Limits of the certificate: share of the secrets' tokens that the released adapter itself proves, by rank and "
        f"recipe, mean over secrets and seeds. {told}"
    ).strip()

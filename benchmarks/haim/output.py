"""The table in Markdown and the figure, from rows."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.haim.rows import Row, interval, mean
from bridge_core.baselines.haim.gate import LARGEST_RESIDUAL
from reports.figure import COLOURS, GREY, TEXT_WIDTH, paper_style, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADER = (
    "| case | equation | steps | residual, true data | strangers | Haim et al., PSNR (n) | null, PSNR | SSIM / null |"
    " bridge, PSNR (n) | its start |"
)
RULE = "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
NAME = "haim"
EQUATIONS = ("homogeneous", "decayed", "", "kernel")
"""In the order of their colours; the third is the bridge's."""
STEP_TICKS, PSNR_TICKS, RESIDUAL_TICKS = (1, 100, 10_000), (10, 20, 40, 80), (1e-6, 1e-4, 1e-2, 1)


def table(rows: list[Row]) -> str:
    """A line a row."""
    return "\n".join([HEADER, RULE, *map(line, rows)]) + "\n"


def line(row: Row) -> str:
    """A row of the table."""
    residual = f"{mean(row.residuals):.2g}"
    verdict = "" if row.applicable else f"not applicable ({residual})"
    haim = " · ".join(text for text in (interval(row.psnr) if row.psnr else "", verdict) if text)
    ssim = f"{mean(row.ssim):.2f} / {mean(row.ssim_null):.2f}" if row.ssim else "–"
    bridge = interval(row.psnr_bridge) if row.psnr_bridge else row.bridge
    start = f"{mean(row.psnr_bridge_start):.1f}" if row.psnr_bridge_start else "–"
    cells = [
        row.case,
        row.equation,
        f"{row.steps:,}",
        residual,
        f"{mean(row.residuals_strangers):.2g}",
        haim,
        interval(row.psnr_null) if row.psnr_null else "–",
        ssim,
        bridge,
        start,
    ]
    return f"| {' | '.join(cells)} |"


def figure(rows: list[Row], folder: Path) -> list[Path]:
    """A column a case: above, what the oracle gate finds; below, PSNR of Haim et al., its null, and the bridge."""
    from matplotlib import pyplot

    cases = list(dict.fromkeys(row.case for row in rows))
    with paper_style():
        canvas, axes = pyplot.subplots(
            2,
            len(cases),
            figsize=(TEXT_WIDTH + 1.4, 3.6),
            squeeze=False,
            sharex=True,
            sharey="row",
            layout="constrained",
        )
        for column, case in enumerate(cases):
            mine = [row for row in rows if row.case == case]
            axes[0, column].set_title(case.replace(", ", ",\n", 1))
            for equation in dict.fromkeys(row.equation for row in mine):
                place = EQUATIONS.index(equation)
                _residuals(axes[0, column], [row for row in mine if row.equation == equation], equation, place)
                _psnr(axes[1, column], [row for row in mine if row.equation == equation], place)
            _bridge(axes[1, column], mine)
            axes[1, column].set_xlabel("training steps")
            axes[1, column].set_xticks(STEP_TICKS, [f"{step:,}" for step in STEP_TICKS])
            axes[1, column].set_xlim(0.6, 17_000)
            axes[1, column].minorticks_off()
        axes[0, 0].set_ylabel("residual of the true data")
        axes[1, 0].set_ylabel("PSNR (dB)")
        axes[0, 0].set_yticks(RESIDUAL_TICKS, [f"{tick:g}" for tick in RESIDUAL_TICKS])
        axes[1, 0].set_yscale("log")
        axes[1, 0].set_yticks(PSNR_TICKS, [str(tick) for tick in PSNR_TICKS])
        for axis in axes.flat:
            axis.minorticks_off()
        handles = {h.get_label(): h for axis in axes.flat for h in axis.get_legend_handles_labels()[0]}
        canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
        return save(canvas, folder, NAME)


def _residuals(axis: "Axes", rows: list[Row], equation: str, place: int) -> None:
    steps = [row.steps for row in rows]
    axis.plot(
        steps, [max(mean(row.residuals), 1e-7) for row in rows], "o-", color=COLOURS[place], label=_named(equation)
    )
    axis.plot(steps, [mean(row.residuals_strangers) for row in rows], ":", color=COLOURS[place])
    axis.axhline(LARGEST_RESIDUAL, color=GREY, linestyle="--", linewidth=0.6)
    axis.set_xscale("log")
    axis.set_yscale("log")


def _psnr(axis: "Axes", rows: list[Row], place: int) -> None:
    for row in rows:
        if row.psnr:
            fill = COLOURS[place] if row.applicable else "white"
            error = _half(row.psnr)
            axis.errorbar(
                [row.steps],
                [mean(row.psnr)],
                yerr=error,
                fmt="o",
                capsize=1.5,
                color=COLOURS[place],
                markerfacecolor=fill,
            )
    drawn = [row for row in rows if row.psnr_null]
    axis.plot(
        [r.steps for r in drawn],
        [mean(r.psnr_null) for r in drawn],
        "_",
        color="black",
        markersize=7,
        label="null: strangers",
    )


def _bridge(axis: "Axes", rows: list[Row]) -> None:
    drawn = {row.steps: row for row in rows if row.psnr_bridge}
    if drawn:
        values = [mean(row.psnr_bridge) for row in drawn.values()]
        errors = [_half(row.psnr_bridge) for row in drawn.values()]
        look: dict[str, Any] = {
            "color": COLOURS[2],
            "marker": "D",
            "capsize": 1.5,
            "label": "bridge: Gauss–Newton on measurements",
        }
        axis.errorbar(list(drawn), values, yerr=errors, **look)


def _half(values: list[float]) -> float:
    from reports.estimate import half_width

    half = half_width(values) if len(values) > 1 else None
    return 0.0 if half is None or math.isnan(half) else half


def _named(equation: str) -> str:
    return f"Haim et al., {equation}"

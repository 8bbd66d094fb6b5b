"""The heat map: cells by two axes, coloured by a metric, with the number or the state written into each square."""

import math
from dataclasses import dataclass

from textual.color import Color
from textual.content import Content
from textual.events import Click
from textual.markup import escape
from textual.message import Message
from textual.style import Style

from benchmark.tui import wording
from benchmark.tui.axes import axis_pairs
from benchmark.tui.measures import heat, measure
from benchmark.tui.records import CellState
from benchmark.tui.state import View
from benchmark.tui.summary import Grid, Group, grid
from benchmark.tui.widgets.section import Section

MIN_SQUARE, MAX_SQUARE = 6, 16
"""Bounds of a square's width, terminal columns."""
UNFINISHED = (CellState.FAILED, CellState.RUNNING, CellState.WAITING, CellState.CANCELLED, CellState.SKIPPED)
"""What a square tells first."""


@dataclass(frozen=True)
class _Layout:
    """Where the squares were drawn last, for the mouse."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    margin: int
    square: int


class HeatMap(Section):
    """Cells by two axes that vary; `turn` goes to the next pair of axes. A click shows the cells of a square."""

    @dataclass
    class Chosen(Message):
        """A square was clicked; `query` filters its cells."""

        query: str

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.pair = 0
        self.turns = 0
        """Of the metric."""
        self._layout: _Layout | None = None

    def turn(self) -> None:
        """Show the next pair of axes."""
        self.pair += 1
        self.show(self.now)

    def choose(self, rows: str, columns: str) -> None:
        """Show these axes."""
        self.pair = axis_pairs(self.view.axes).index((rows, columns))
        self.show(self.now)

    @property
    def metric(self) -> str:
        """What colours the squares."""
        return measure(self.view, self.turns)

    def on_click(self, event: Click) -> None:
        """Ask for the cells of the square under the mouse."""
        place, drawn = event.get_content_offset(self), self._layout
        if place is None or drawn is None or place.y < 1 or place.y > len(drawn.rows):
            return
        rows, columns = self.axes
        query = f"{rows}:{_quoted(drawn.rows[place.y - 1])}"
        column = (place.x - drawn.margin) // drawn.square
        if columns and place.x >= drawn.margin and column < len(drawn.columns):
            query += f" {columns}:{_quoted(drawn.columns[column])}"
        self.post_message(self.Chosen(query))

    @property
    def axes(self) -> tuple[str, str]:
        """Axis of the rows, axis of the columns; the latter is empty where only one axis varies."""
        pairs = axis_pairs(self.view.axes)
        return pairs[self.pair % len(pairs)]

    def heading(self) -> str:
        """What is shown by what."""
        rows, columns = map(wording.plain, self.axes)
        title = wording.titled(self.metric)
        return escape(f"{title}, {rows}" + (f" by {columns}" if columns else ""))

    def render(self) -> Content:
        """Column labels, then a line a row."""
        if not self.view.cells:
            return Content.styled("no cells planned yet", "$secondary")
        return self.cached(self._squares, self.axes, self.metric)

    def _squares(self) -> Content:
        rows, columns = self.axes
        return self._picture(grid(self.view, (rows,), columns, self.metric))

    def _picture(self, cells: Grid) -> Content:
        margin = min(max(len(wording.plain(row[0])) for row in cells.rows), max(6, self.size.width // 3)) + 1
        room = self.size.width - margin
        widest = max(len(column) + 1 for column in cells.columns)
        square = min(MAX_SQUARE, max(MIN_SQUARE, widest, room // len(cells.columns)))
        columns = cells.columns[: max(1, room // square)]
        fits = len(cells.rows) < self.size.height and len(columns) == len(cells.columns)
        rows = cells.rows if fits else cells.rows[: max(1, self.size.height - 2)]
        self._layout = _Layout(tuple(row[0] for row in rows), columns, margin, square)
        lines = [Content.styled(_heading(columns, margin, square), "$secondary")]
        for row in rows:
            squares = [self._square(cells.groups.get((row, column)), square) for column in columns]
            lines.append(Content.assemble(wording.fit(wording.plain(row[0]), margin - 1), " ", *squares))
        if not fits:
            lines.append(
                Content.styled(_left_out(len(cells.rows) - len(rows), len(cells.columns) - len(columns)), "$secondary")
            )
        return Content("\n").join(lines)

    def _square(self, group: Group | None, width: int) -> Content:
        if group is None:
            return Content(" " * width)
        text, colour = square_text(group, self.metric), self._colour(group)
        body = wording.fit(text, width - 1, right=True)
        return Content.assemble((body, colour), " ")

    def _colour(self, group: Group) -> Style | str:
        mean = group.mean
        if mean is None or math.isnan(mean):
            return wording.style(_telling_state(group))
        share = heat(self.metric, mean)
        variables = self.app.theme_variables
        background = Color.parse(variables["heat-cold"]).blend(Color.parse(variables["heat-hot"]), share)
        return Style(background=background, foreground=background.get_contrast_text(0.95))


def _heading(columns: tuple[str, ...], margin: int, square: int) -> str:
    return " " * margin + "".join(wording.fit(wording.plain(c), square - 1, right=True) + " " for c in columns)


def _left_out(rows: int, columns: int) -> str:
    parts = [wording.plural(count, noun) for count, noun in ((rows, "row"), (columns, "column")) if count]
    return f"{' and '.join(parts)} more: press 4"


def _telling_state(group: Group) -> CellState:
    """The state that a square shows: what is not finished comes first."""
    for state in UNFINISHED:
        if group.states[state]:
            return state
    return CellState.FINISHED


def square_text(group: Group, metric: str = "psnr") -> str:
    """The mean with the sign of what is still missing, or the sign with cells finished of all."""
    state, mean = _telling_state(group), group.mean
    if mean is None:
        return f"{wording.sign(state)}{group.states[CellState.FINISHED]}/{group.total}"
    missing = " " if state is CellState.FINISHED else wording.sign(state)
    if not metric.startswith("psnr"):
        return f"{mean:.2f}{missing}" if abs(mean) >= 0.01 or not mean else f"{mean:.0e}{missing}"
    return f"{mean:.1f}{missing}" if abs(mean) < 99.95 else f"{mean:.0f}{missing}"


def _quoted(label: str) -> str:
    return f'"{label}"' if " " in label else label

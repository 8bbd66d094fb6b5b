"""A table of cells that draws only the lines on the screen, so that 10,000 of them cost as much as 20."""

from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from benchmark.tui import wording
from benchmark.tui.records import CellState, CellView
from benchmark.tui.selection import Order

MAX_METRICS = 2


@dataclass(frozen=True)
class TableColumn:
    """A column: what it sorts by, its heading, its width in terminal columns."""

    key: str
    title: str
    width: int
    right: bool = False


def columns_for(values: dict[str, tuple[str, ...]], measures: tuple[str, ...]) -> tuple[TableColumn, ...]:
    """State, the axes that vary, the first metrics, the id; `values` are the labels of each axis."""
    varied = [axis for axis, labels in values.items() if len(labels) > 1]
    axes = [
        TableColumn(axis, axis, min(24, max([len(axis) + 2, *map(len, values[axis])])), axis in ("rank", "seed"))
        for axis in varied
    ]
    shown = measures[:MAX_METRICS]
    metrics = [TableColumn(name, wording.title(name), max(7, len(wording.title(name)) + 1), True) for name in shown]
    return (TableColumn("state", "state", 16), *axes, *metrics, TableColumn("cell", "cell", 12))


class CellTable(ScrollView, can_focus=True):
    """Cells in lines under a heading, with a cursor that stays on its cell when the order changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000000)", "First", show=False),
        Binding("end,G", "move(1000000000)", "Last", show=False),
        Binding("enter", "open", "Open"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"cell-table--{part}" for part in ("head", "cursor", *CellState)}

    @dataclass
    class Opened(Message):
        """A cell was chosen."""

        cell: CellView

    @dataclass
    class HeadClicked(Message):
        """A column's heading was clicked."""

        column: str

    def __init__(self) -> None:
        super().__init__(id="cell-table")
        self.columns: tuple[TableColumn, ...] = ()
        self.cells: list[CellView] = []
        self.order = Order()
        self.cursor = 0

    def show(self, cells: list[CellView], columns: tuple[TableColumn, ...], order: Order) -> None:
        """Show `cells` in this order; the cursor stays on its cell, and the cell where it is on the screen."""
        chosen, before = self.chosen, self.cursor
        if chosen is not None and not (self.cursor < len(cells) and cells[self.cursor] is chosen):
            places = {id(cell): place for place, cell in enumerate(cells)}
            self.cursor = places.get(id(chosen), min(self.cursor, max(0, len(cells) - 1)))
        self.cells, self.columns, self.order = cells, columns, order
        size = Size(sum(column.width + 2 for column in columns), len(cells) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        if self.cursor != before:
            self.scroll_to(y=self.scroll_offset.y + self.cursor - before, animate=False)
        self.refresh()

    def rewind(self) -> None:
        """Put the cursor on the first line."""
        self.action_move(-len(self.cells))

    @property
    def chosen(self) -> CellView | None:
        """The cell under the cursor."""
        return self.cells[self.cursor] if self.cursor < len(self.cells) else None

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self.cursor = max(0, min(len(self.cells) - 1, self.cursor + lines))
        top, room = self.scroll_offset.y, max(1, self.scrollable_content_region.height - 1)
        if not top <= self.cursor < top + room:
            self.scroll_to(y=self.cursor if self.cursor < top else self.cursor - room + 1, animate=False)
        self.refresh()

    def action_page(self, pages: int) -> None:
        """Move the cursor by screens."""
        self.action_move(pages * max(1, self.scrollable_content_region.height - 2))

    def action_open(self) -> None:
        """Open the cell under the cursor."""
        if self.chosen is not None:
            self.post_message(self.Opened(self.chosen))

    def on_click(self, event: Click) -> None:
        """Choose a line, open it when it is chosen already, or sort by a heading."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            self._click_head(offset.x + self.scroll_offset.x)
            return
        line = offset.y - 1 + self.scroll_offset.y
        if line < len(self.cells):
            again, self.cursor = line == self.cursor, line
            self.action_open() if again else self.refresh()

    def _click_head(self, x: int) -> None:
        for column in self.columns:
            if x < column.width + 2:
                self.post_message(self.HeadClicked(column.key))
                return
            x -= column.width + 2

    # --- drawing ------------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the heading stays at the top."""
        line = y - 1 + self.scroll_offset.y
        width = self.size.width
        if y == 0:
            strip = Strip(self._head())
        elif line < len(self.cells):
            strip = Strip(self._row(self.cells[line], under_cursor=line == self.cursor))
        else:
            return Strip.blank(width, self.rich_style)
        base = self.rich_style + self._style("head") if y == 0 else self.rich_style
        base = self._style("cursor") if y and line == self.cursor and self.has_focus else base
        return strip.crop_extend(self.scroll_offset.x, self.scroll_offset.x + width, base).apply_style(base)

    def _style(self, part: str) -> Style:
        return self.get_component_rich_style(f"cell-table--{part}", partial=True)

    def _head(self) -> list[Segment]:
        style = self._style("head")
        mark = "▼" if self.order.reverse else "▲"
        titles = [f"{c.title}{mark}" if c.key == self.order.column else c.title for c in self.columns]
        return [
            Segment(f" {wording.fit(title, column.width, column.right)} ", style)
            for title, column in zip(titles, self.columns, strict=True)
        ]

    def _row(self, cell: CellView, under_cursor: bool) -> list[Segment]:
        state = cell.state
        texts = [(" ", wording.fit(cell_text(cell, state, c.key), c.width, c.right)) for c in self.columns]
        first, *rest = [f"{gap}{text} " for gap, text in texts]
        marked = (">" if under_cursor else " ") + first[1:]
        return [Segment(marked, self._style(state.value)), Segment("".join(rest), None)]


def cell_text(cell: CellView, state: CellState, column: str) -> str:
    """What stands in `column` for `cell`."""
    if column == "state":
        return f"{wording.sign(state)} {_state_words(cell, state)}"
    if column == "cell":
        return wording.plain(cell.id)
    if column in cell.labels:
        return wording.plain(cell.labels[column])
    return wording.metric(column, cell.metrics.get(column))


def _state_words(cell: CellView, state: CellState) -> str:
    if state is CellState.FAILED and cell.cause:
        return wording.plain(cell.cause)
    if state is not CellState.RUNNING:
        return state.value
    stage = cell.running_stage
    task = cell.tasks[stage]
    return f"{stage} {task.fraction:.0%}" if task.total else stage

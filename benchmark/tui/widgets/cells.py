"""The second screen: all cells, filtered and sorted."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from benchmark.tui import wording
from benchmark.tui.measures import PREFERRED, measures_of
from benchmark.tui.selection import Order, select
from benchmark.tui.state import View
from benchmark.tui.widgets.cell_table import CellTable, columns_for


class FilterBox(Input):
    """The filter; Enter keeps it, Escape forgets it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep the filter"),
        Binding("escape", "app.leave_filter", "Forget it"),
    ]


class Cells(Vertical):
    """A filter, a line that says what is shown, and the table."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        self.query_text = ""
        self.order = Order()

    def compose(self) -> ComposeResult:
        """The filter is hidden until it is asked for."""
        yield FilterBox(placeholder="words, or rank:8, bridge:ridge, state:failed", id="filter", compact=True)
        yield Static(id="shown")
        yield CellTable()

    def on_mount(self) -> None:
        """Hide the filter."""
        self.query_one("#filter", Input).display = False

    def show(self, now: float) -> None:
        """Draw the cells as they are."""
        del now
        table = self.query_one(CellTable)
        columns = columns_for(self.view.axes, measures_of(self.view))
        cells = select(self.view.cells.values(), self.query_text, self.order)
        table.show(cells, columns, self.order)
        titles = {column.key: column.title for column in columns}
        order = titles.get(self.order.column, "plan")
        told = f" {len(cells)} of {wording.plural(len(self.view.cells), 'cell')}, sorted by {order}"
        told += " downwards" if self.order.reverse else ""
        told += f", filter: {wording.plain(self.query_text)}" if self.query_text.strip() else ""
        self.query_one("#shown", Static).update(Content(told))

    # --- filter and order ---------------------------------------------------------------------------------------------

    def open_filter(self) -> None:
        """Show the filter and write into it."""
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    def filter_by(self, query: str) -> None:
        """Show only the cells that `query` matches."""
        self.query_one("#filter", Input).value = query
        self.query_one("#filter", Input).display = bool(query)
        self.query_text = query
        self._select()

    def close_filter(self, keep: bool) -> None:
        """Back to the table; the filter is forgotten unless `keep`."""
        if not keep or not self.query_text.strip():
            self.filter_by("")
        self.query_one(CellTable).focus()

    def sort_by_next(self) -> None:
        """Sort by the next column; after the last, by the plan."""
        keys = ["", *(column.key for column in self.query_one(CellTable).columns)]
        place = keys.index(self.order.column) if self.order.column in keys else 0
        column = keys[(place + 1) % len(keys)]
        self.order = Order(column, reverse=column in PREFERRED and column != "mse")
        self._select()

    def reverse(self) -> None:
        """Turn the order round."""
        self.order = Order(self.order.column, not self.order.reverse)
        self._select()

    @on(Input.Changed, "#filter")
    def _typed(self, event: Input.Changed) -> None:
        if event.value != self.query_text:
            self.query_text = event.value
            self._select()

    @on(Input.Submitted, "#filter")
    def _submitted(self) -> None:
        self.close_filter(keep=True)

    @on(CellTable.HeadClicked)
    def _head_clicked(self, event: CellTable.HeadClicked) -> None:
        same = event.column == self.order.column
        self.order = Order(event.column, reverse=not self.order.reverse if same else False)
        self._select()

    def _select(self) -> None:
        """Draw a new selection from its first line."""
        self.show(0.0)
        self.query_one(CellTable).rewind()

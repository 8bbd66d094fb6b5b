"""The fourth screen: the running table, bridge by rank, a mean over seeds in every square."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Static

from benchmark.tui import wording
from benchmark.tui.measures import measure
from benchmark.tui.records import CellState
from benchmark.tui.state import View
from benchmark.tui.summary import Grid, Group, grid

MAX_ROWS = 400


class Results(Vertical):
    """Mean, deviation and number of cells for every value of the axes but the seed."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        self.turns = 0
        """Of the metric."""
        self._drawn: tuple[object, ...] = ()
        self._texts: dict[tuple[int, int], str] = {}

    def compose(self) -> ComposeResult:
        """A line that says what is shown, and the table."""
        yield Static(id="measured")
        yield DataTable[Text](id="results", cursor_type="row", zebra_stripes=False)

    @property
    def metric(self) -> str:
        """What is shown."""
        return measure(self.view, self.turns)

    def show(self, now: float) -> None:
        """Draw the table as it is; squares that have not changed are left alone."""
        del now
        cells = self._grid()
        told = f" {wording.titled(self.metric)}: mean ± deviation (cells), by {wording.plain(cells.column_axis)}"
        told += f"; the first {MAX_ROWS} of {len(cells.rows)} rows" if len(cells.rows) > MAX_ROWS else ""
        self.query_one("#measured", Static).update(Content(told))
        shape = (cells.row_axes, cells.rows, cells.columns)
        if shape != self._drawn:
            self._build(cells)
            self._drawn, self._texts = shape, {}
        self._fill(cells)

    def _grid(self) -> Grid:
        values = self.view.axes
        varied = [axis for axis, labels in values.items() if len(labels) > 1 and axis != "seed"]
        column = "rank" if "rank" in varied or len(varied) < 2 else varied[1]
        rows = tuple(axis for axis in varied if axis != column) or ("bridge",)
        return grid(self.view, rows, column, self.metric)

    def _build(self, cells: Grid) -> None:
        table = self._table
        table.clear(columns=True)
        for axis in cells.row_axes:
            table.add_column(Text(wording.plain(axis)))
        for column in cells.columns:
            table.add_column(
                Text(f"{wording.plain(cells.column_axis)} {wording.plain(column)}", justify="right"), width=15
            )
        blanks = [Text("")] * len(cells.columns)
        for row in cells.rows[:MAX_ROWS]:
            table.add_row(*(Text(wording.plain(label)) for label in row), *blanks)

    def _fill(self, cells: Grid) -> None:
        table, first = self._table, len(cells.row_axes)
        for y, row in enumerate(cells.rows[:MAX_ROWS]):
            for x, column in enumerate(cells.columns):
                text = square_text(cells.groups.get((row, column)), self.metric)
                if self._texts.get((y, x)) != text:
                    self._texts[y, x] = text
                    table.update_cell_at((y, first + x), Text(text, justify="right"))  # pyright: ignore[reportArgumentType]

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one("#results", DataTable)  # pyright: ignore[reportUnknownVariableType]


def square_text(group: Group | None, metric: str) -> str:
    """`24.1 ± 0.8 (3)`; without a value, how many are finished."""
    if group is None:
        return ""
    mean, deviation = group.mean, group.deviation
    if mean is None:
        failed = group.states[CellState.FAILED]
        return f"{wording.SIGNS['failed']} {failed} failed" if failed == group.total else f"0 of {group.total}"
    spread = "" if deviation is None else f" ± {wording.metric(metric, deviation)}"
    return f"{wording.metric(metric, mean)}{spread} ({len(group.values)})"

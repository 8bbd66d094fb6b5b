"""A plain table of texts with a cursor: columns as wide as they need to be, only the lines on the screen drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from benchmark.tui import wording

MAX_WIDTH = 44
"""Columns of the terminal that one column of the table takes at most, but for the last."""


class Rows(ScrollView, can_focus=True):
    """Rows under a heading; `Moved` tells that the cursor is on another row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000000)", "First", show=False),
        Binding("end,G", "move(1000000000)", "Last", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--head", "rows--cursor"}

    @dataclass
    class Moved(Message):
        """The cursor is on row `place` of `rows`."""

        rows: "Rows"
        place: int

    def __init__(self, name: str, columns: Sequence[str], right: Sequence[str] = ()) -> None:
        super().__init__(id=name)
        self.columns = tuple(columns)
        self.right = tuple(right)
        """Columns of numbers."""
        self.rows: list[list[str]] = []
        self.cursor = 0
        self._widths = tuple(map(len, columns))

    def show(self, rows: Sequence[Sequence[str]]) -> None:
        """Show `rows`; the cursor stays at its place."""
        self.rows = [[wording.plain(text) for text in row] for row in rows]
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        texts = [list(self.columns), *self.rows]
        widest = [max(cell_len(row[place]) for row in texts) for place in range(len(self.columns))]
        self._widths = (*(min(MAX_WIDTH, width) for width in widest[:-1]), widest[-1])
        size = Size(sum(self._widths) + 2 * len(widest), len(rows) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A line for each row and one for the heading."""
        del container, viewport, width
        return len(self.rows) + 1

    def move_to(self, place: int) -> None:
        """Put the cursor on a row, and say so."""
        self.cursor = max(0, min(len(self.rows) - 1, place))
        top, room = self.scroll_offset.y, max(1, self.scrollable_content_region.height - 1)
        if not top <= self.cursor < top + room:
            self.scroll_to(y=self.cursor if self.cursor < top else self.cursor - room + 1, animate=False)
        self.refresh()
        self.post_message(self.Moved(self, self.cursor))

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self.move_to(self.cursor + lines)

    def action_page(self, pages: int) -> None:
        """Move the cursor by screens."""
        self.move_to(self.cursor + pages * max(1, self.scrollable_content_region.height - 2))

    def on_click(self, event: Click) -> None:
        """Choose a row."""
        offset = event.get_content_offset(self)
        if offset is not None and 0 < offset.y <= len(self.rows) - self.scroll_offset.y:
            self.move_to(offset.y - 1 + self.scroll_offset.y)

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the heading stays at the top."""
        width, left, place = self.size.width, self.scroll_offset.x, y - 1 + self.scroll_offset.y
        if y and place >= len(self.rows):
            return Strip.blank(width, self.rich_style)
        style = self._style("head") if y == 0 else self.rich_style
        style = self._style("cursor") if y and place == self.cursor and self.has_focus else style
        row = self.columns if y == 0 else self.rows[place]
        text = "".join(
            f" {wording.fit(text, wide, column in self.right)} "
            for text, wide, column in zip(row, self._widths, self.columns, strict=True)
        )
        return Strip([Segment(text)]).crop_extend(left, left + width, style).apply_style(style)

    def _style(self, part: str) -> Style:
        return self.rich_style + self.get_component_rich_style(f"rows--{part}", partial=True)

"""The fifth screen: the log."""

from typing import ClassVar

from rich.segment import Segment
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from benchmark.tui import wording
from benchmark.tui.records import LogLine
from benchmark.tui.state import View

SIGNS = {"info": " ", "warning": "!", "error": wording.SIGNS["failed"]}


class LogLines(ScrollView, can_focus=True):
    """The latest lines, drawn where they are seen; it stays at the end unless it is scrolled away from there."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"log--{part}" for part in ("time", *SIGNS)}

    def __init__(self, view: View) -> None:
        super().__init__(id="log")
        self.view = view
        self.lines: list[LogLine] = []

    def show(self, now: float) -> None:
        """Draw the log as it is."""
        del now
        if self.lines and self.lines[-1].number == self.view.num_log_lines:
            return
        at_end = self.is_vertical_scroll_end
        self.lines = list(self.view.log)
        width = max((len(line.message) for line in self.lines), default=0) + 11
        self.virtual_size = Size(width, len(self.lines))
        if at_end:
            self.scroll_end(animate=False, x_axis=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        place, left, width = y + self.scroll_offset.y, self.scroll_offset.x, self.size.width
        if place >= len(self.lines):
            return Strip.blank(width, self.rich_style)
        line = self.lines[place]
        level = line.level if line.level in SIGNS else "info"
        styles = [self.get_component_rich_style(f"log--{part}", partial=True) for part in ("time", level)]
        strip = Strip([Segment(since(line, start_of(self.view)), styles[0]), Segment(told(line), styles[1])])
        return strip.crop_extend(left, left + width, self.rich_style).apply_style(self.rich_style)


def start_of(view: View) -> float:
    """Start of the run, or of what is known of it; seconds since the epoch."""
    return view.run.time if view.run else view.first_time or 0.0


def log_line(line: LogLine, start: float, width: int) -> Content:
    """A line of the log in `width` columns; `start` is the run's, seconds since the epoch."""
    style = {"warning": "$warning", "error": "$error"}.get(line.level, "")
    time = since(line, start)
    return Content.assemble((time, "$secondary"), (wording.fit(told(line), width - len(time)).rstrip(), style))


def since(line: LogLine, start: float) -> str:
    """The line's time after the run's start."""
    return wording.fit(wording.duration(max(0.0, line.time - start)), 8, right=True)


def told(line: LogLine) -> str:
    """The line's sign and message."""
    return f" {SIGNS.get(line.level, ' ')} {wording.plain(line.message)}"

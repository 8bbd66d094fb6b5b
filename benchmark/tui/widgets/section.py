"""A part of a screen under a thin rule with a title."""

from collections.abc import Callable, Hashable

from textual.content import Content
from textual.widget import Widget

from benchmark.tui.state import View


class Section(Widget):
    """Draws a part of the view; its title may change with it."""

    TITLE = ""

    def __init__(self, view: View) -> None:
        super().__init__(classes="section")
        self.view = view
        self.now = 0.0
        self._cached: tuple[Hashable, Content] = None, Content("")

    def on_mount(self) -> None:
        """Set the first title."""
        self.border_title = self.heading()

    def show(self, now: float) -> None:
        """Draw the view as it is at `now` (seconds since the epoch)."""
        self.now = now
        if self.border_title != (heading := self.heading()):
            self.border_title = heading
        self.refresh()

    def cached(self, draw: Callable[[], Content], *key: Hashable) -> Content:
        """Draw again only if the view, the size or `key` has changed: textual renders far more often than that."""
        present = (self.view.num_events, self.size, self.app.theme, *key)
        if self._cached[0] != present:
            self._cached = present, draw()
        return self._cached[1]

    def heading(self) -> str:
        """The title, with a number where there is one to tell."""
        return self.TITLE

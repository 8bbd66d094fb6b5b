"""The line at the top: which run, how it stands, how long it took and takes."""

from textual.content import Content
from textual.widget import Widget

from benchmark.tui import wording
from benchmark.tui.standing import Standing
from benchmark.tui.state import View
from benchmark.tui.summary import elapsed, time_left


class RunHeader(Widget):
    """One line; what matters least is left out where the terminal is narrow."""

    def __init__(self, view: View) -> None:
        super().__init__(id="header")
        self.view = view
        self.standing = Standing("·", "waiting for the journal", "$secondary")
        self.now = 0.0
        self.num_unreadable = 0
        """Lines of the journal that are no event this program knows."""

    def show(self, standing: Standing, now: float, num_unreadable: int = 0) -> None:
        """Draw the run as it stands at `now` (seconds since the epoch)."""
        self.standing, self.num_unreadable = standing, num_unreadable
        self.now = self.view.last_time if standing.over else now
        self.refresh()

    def render(self) -> Content:
        """The line."""
        suite = wording.plain(self.view.run.suite) if self.view.run else "bridge"
        standing = f"{self.standing.sign} {self.standing.word}"
        room = self.size.width - len(suite) - len(standing) - 5
        parts: list[str] = []
        for part in self._parts():
            if len("   ".join([*parts, part])) > room:
                break
            parts.append(part)
        right = "   ".join(parts)
        gap = " " * max(1, self.size.width - 3 - len(suite) - len(standing) - len(right) - 1)
        return Content.assemble(" ", (suite, "bold"), "  ", (standing, self.standing.style), gap, (right, "$secondary"))

    def _parts(self) -> list[str]:
        run = self.view.run
        if run is None:
            return []
        parts = [wording.duration(elapsed(self.view, self.now))]
        left = None if self.standing.over else time_left(self.view, self.now)
        if left is not None:
            parts.append(f"{'about' if left.complete else 'at least'} {wording.rough(left.seconds)} left")
        if self.num_unreadable:
            parts.append(f"{wording.plural(self.num_unreadable, 'line')} not understood")
        workers = "in this process" if run.workers == 0 else wording.plural(run.workers, "worker")
        return [*parts, f"{wording.plain(run.host)} pid {run.pid}", workers, wording.plain(run.run)]

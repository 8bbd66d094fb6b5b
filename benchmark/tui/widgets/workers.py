"""The third screen: workers with their present task, and every running task with its curves."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from benchmark.tui import wording
from benchmark.tui.curve import sparkline
from benchmark.tui.records import TaskView
from benchmark.tui.state import View
from benchmark.tui.summary import present_tasks
from benchmark.tui.widgets.overview import task_line

MAX_SHOWN = 64
"""Workers drawn; more would be scrolled past by nobody."""


class Workers(VerticalScroll):
    """A block of lines a worker."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(id="workers")

    def show(self, now: float) -> None:
        """Draw the workers as they are at `now` (seconds since the epoch)."""
        width = max(40, self.screen.size.width - 4)
        blocks: list[Content] = []
        for worker, keys in list(present_tasks(self.view).items())[:MAX_SHOWN]:
            known = self.view.workers.get(worker)
            ended = wording.plural(known.num_ended if known else 0, "task")
            blocks.append(Content.assemble((wording.plain(worker) or "?", "bold"), (f"   {ended} done", "$secondary")))
            blocks += [line for key in keys for line in self._task_lines(self.view.tasks[key], now, width)]
            blocks += [] if keys else [Content.styled("  idle", "$secondary")]
            blocks.append(Content(""))
        text = (
            Content("\n").join(blocks) if blocks else Content.styled("no worker has taken a task up yet", "$secondary")
        )
        self.query_one("#workers", Static).update(text)

    def _task_lines(self, task: TaskView, now: float, width: int) -> list[Content]:
        attempt = f"attempt {task.attempt}" + (f", step {task.step} of {task.total}" if task.total else "")
        lines = [
            Content.assemble("  ", task_line(task, self.view.name_of(task), now, width - 2)),
            Content.styled(f"    task {wording.plain(task.key)[:12]}, {attempt}", "$secondary"),
        ]
        return lines + [Content.assemble("    ", line) for line in curve_lines(task, width - 4)]


def curve_lines(task: TaskView, width: int) -> list[Content]:
    """A line a metric: name, last value, sparkline."""
    return [
        Content.assemble(
            wording.fit(wording.plain(name), 18),
            wording.fit(wording.number(curve.last), 10, right=True),
            "  ",
            (sparkline(curve.values, max(8, min(96, width - 32))), "$accent"),
        )
        for name, curve in task.curves.items()
    ]

"""The third screen: workers with their load and present task, and every running task with its curves."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from benchmark.tui import wording
from benchmark.tui.curve import sparkline
from benchmark.tui.records import TaskView, WorkerView, worker_words
from benchmark.tui.state import View
from benchmark.tui.summary import busy_share, present_tasks
from benchmark.tui.widgets.overview import task_line

MAX_SHOWN = 64
"""Workers drawn; more would be scrolled past by nobody."""
BAR = 10
"""Columns of a bar of load."""


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
            blocks.append(self._head(worker, now, width))
            blocks += [line for key in keys for line in self._task_lines(self.view.tasks[key], now, width)]
            blocks += [] if keys else [Content.styled("  idle", "$secondary")]
            blocks.append(Content(""))
        text = (
            Content("\n").join(blocks) if blocks else Content.styled("no worker has taken a task up yet", "$secondary")
        )
        self.query_one("#workers", Static).update(text)

    def _head(self, name: str, now: float, width: int) -> Content:
        """A worker's name, how much it has done, how busy it was, and what it uses."""
        worker = self.view.workers.get(name) or WorkerView(name)
        title = wording.plain(worker_words(name)) or "?"
        busy = busy_share(worker, self.view, now)
        parts = [
            Content.styled(title, "bold"),
            Content.styled(f"{wording.plural(worker.num_ended, 'task')} done", "$secondary"),
            load_bar("busy", busy, f"{busy:.0%}"),
        ]
        load = worker.load
        if load is not None and self.view.finish is None:
            parts.append(load_bar("cpu", load.cpu / 100, f"{load.cpu:.0f}%"))
            share = load.memory / load.memory_limit if load.memory_limit else 0.0
            parts.append(load_bar("mem", share, wording.memory(load.memory)))
        while len(parts) > 2 and sum(part.cell_length + 3 for part in parts) > width:
            parts.pop()
        return Content("   ").join(parts)

    def _task_lines(self, task: TaskView, now: float, width: int) -> list[Content]:
        attempt = f"attempt {task.attempt}" + (f", step {task.step} of {task.total}" if task.total else "")
        lines = [
            Content.assemble("  ", task_line(task, self.view.name_of(task), now, width - 2)),
            Content.styled(f"    task {wording.plain(task.key)[:12]}, {attempt}", "$secondary"),
        ]
        return lines + [Content.assemble("    ", line) for line in curve_lines(task, width - 4)]


def load_bar(name: str, share: float, told: str) -> Content:
    """`cpu ━━━━━─── 61%`; red from nine tenths of the memory on."""
    done, rest = wording.bar(min(1.0, share), BAR)
    style = "$error" if name == "mem" and share >= 0.9 else "$accent"
    return Content.assemble((f"{name} ", "$secondary"), (done, style), (rest, "$rule"), f" {told}")


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

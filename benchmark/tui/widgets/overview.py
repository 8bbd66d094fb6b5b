"""The first screen: everything about a run that fits on 80 x 24."""

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Click
from textual.message import Message

from benchmark.tui import wording
from benchmark.tui.curve import sparkline
from benchmark.tui.records import CellState, PhaseView, TaskState, TaskView
from benchmark.tui.state import View
from benchmark.tui.summary import cell_counts, phase_left, recent_counts, throughput
from benchmark.tui.widgets.heatmap import HeatMap
from benchmark.tui.widgets.log import log_line, start_of
from benchmark.tui.widgets.section import Section

MAX_BARS = 20
"""Minutes of throughput drawn."""
WIDE = 56
"""Columns from which a phase's line tells both times."""


class Overview(Vertical):
    """Cells counted, phases, heat map, running tasks, failures; the latest log lines where the terminal is tall."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.parts = (CellCounts(view), Phases(view), HeatMap(view), Running(view), Causes(view), Latest(view))

    def compose(self) -> ComposeResult:
        """Two columns under a line."""
        counts, phases, heat_map, running, causes, latest = self.parts
        yield counts
        with Horizontal(id="upper"):
            yield phases
            yield heat_map
        with Horizontal(id="lower"):
            yield running
            yield causes
        yield latest

    def show(self, now: float) -> None:
        """Draw the view as it is at `now` (seconds since the epoch)."""
        for part in self.parts:
            part.show(now)


class CellCounts(Section):
    """One line without a rule: cells by state, each with its sign and its word."""

    def render(self) -> Content:
        """The line."""
        return self.cached(self._line, int(self.now) // 5)

    def _line(self) -> Content:
        counts = cell_counts(self.view)
        shown = [state for state in reversed(CellState) if counts[state] or state is CellState.FINISHED]
        parts = [
            Content.assemble((f"{wording.sign(state)} {counts[state]} ", wording.style(state)), state.value)
            for state in shown
        ]
        counted = Content.assemble(
            (f"{wording.plural(len(self.view.cells), 'cell')}   ", "bold"), Content("   ").join(parts)
        )
        return self._with_rate(counted)

    def _with_rate(self, counted: Content) -> Content:
        """Beside the counts, where there is room: tasks finished in each of the last minutes."""
        room = self.size.width - counted.cell_length - len("   by minute ")
        counts = recent_counts(self.view, self.now, min(MAX_BARS, room)) if room > 0 else []
        bars = sparkline(counts, len(counts))
        gap = " " * (room - len(bars))
        return (
            Content.assemble(counted, f"   {gap}", ("by minute ", "$secondary"), (bars, "$accent")) if bars else counted
        )


class Phases(Section):
    """A bar for each phase."""

    @dataclass
    class Chosen(Message):
        """A phase was clicked."""

        phase: str

    def heading(self) -> str:
        """What the numbers at the end of the lines are."""
        return "Phases: done, time of one, time left" if self.size.width >= WIDE else "Phases: time of one, ~ left"

    def on_click(self, event: Click) -> None:
        """Ask for the tasks of the phase under the mouse."""
        place, names = event.get_content_offset(self), list(self.view.phases)
        if place is not None and 0 <= place.y < len(names):
            self.post_message(self.Chosen(names[place.y]))

    def show(self, now: float) -> None:
        """Draw the view as it is, on a line for each phase."""
        super().show(now)
        height = max(3, len(self.view.phases) + 2)
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height

    def render(self) -> Content:
        """One line a phase."""
        if not self.view.phases:
            return Content.styled("nothing planned yet", "$secondary")
        widest = max(len(str(phase.total)) for phase in self.view.phases.values())
        return Content("\n").join(self._line(phase, widest) for phase in self.view.phases.values())

    def _line(self, phase: PhaseView, digits: int) -> Content:
        counts = phase.counts
        wide = self.size.width >= WIDE
        width = max(4, min(40, self.size.width - 10 - 2 * digits - 1 - (18 if wide else 8) - 6))
        done, rest = wording.bar(phase.done / phase.total if phase.total else 0.0, width)
        trouble = counts[TaskState.FAILED] + counts[TaskState.SKIPPED]
        state = _phase_state(phase)
        return Content.assemble(
            (f"{wording.sign(state)} ", wording.style(state)),
            f"{wording.fit(wording.plain(phase.name), 10)} ",
            (done, wording.STYLES["finished"]),
            (rest, "$error" if trouble else "$rule"),
            f" {phase.done:>{digits}}/{phase.total:<{digits}} ",
            self._times(phase, wide),
        )

    def _times(self, phase: PhaseView, wide: bool) -> Content:
        """Mean time of a task and time left; where there is room for one, the latter as long as there is any."""
        left, each = phase_left(self.view, phase, self.now), wording.duration(phase.mean_seconds)
        rest = f"~{wording.coarse(left)}" if left is not None else ""
        texts = [each, rest] if wide else [rest or each]
        widths = [8, 10] if wide else [8]
        fitted = "".join(wording.fit(text, width, right=True) for text, width in zip(texts, widths, strict=True))
        return Content.styled(fitted, "$secondary")


def _phase_state(phase: PhaseView) -> TaskState:
    """The state that says most about a phase."""
    for state in (TaskState.FAILED, TaskState.RUNNING, TaskState.WAITING, TaskState.SKIPPED, TaskState.FINISHED):
        if phase.counts[state]:
            return state
    return TaskState.CACHED


class Running(Section):
    """Running tasks: how far, with what figures."""

    TITLE = "Running"

    def heading(self) -> str:
        """The title with the number of tasks, and how many are finished a minute."""
        rate = throughput(self.view, self.now)
        counted = f"{self.TITLE} {len(self.view.running)}" if self.view.running else self.TITLE
        return counted if rate is None else f"{counted}, {rate:.3g} tasks/min"

    def render(self) -> Content:
        """One line a task, as many as fit."""
        tasks = [self.view.tasks[key] for key in self.view.running]
        if not tasks:
            return Content.styled("nothing runs at the moment", "$secondary")
        shown = tasks if len(tasks) <= self.size.height else tasks[: max(1, self.size.height - 1)]
        lines = [task_line(task, self.view.name_of(task), self.now, self.size.width) for task in shown]
        if len(shown) < len(tasks):
            lines.append(Content.styled(f"and {len(tasks) - len(shown)} more: press 3", "$secondary"))
        return Content("\n").join(lines)


def task_line(task: TaskView, name: str, now: float, width: int) -> Content:
    """A running task in one line of `width` columns: a bar and its first metric where there is room for them."""
    spent = wording.duration(now - task.started) if task.started is not None else ""
    bar = max(0, min(24, width // 2 - 18))
    named = min(32, width - 2 - bar - 5 - 8)
    done, rest = wording.bar(task.fraction, bar)
    metric, value = next(iter(task.metrics.items()), ("", None))
    told = f"  {wording.plain(metric)} {wording.number(value, 3)}" if value is not None else ""
    room = width - 2 - named - bar - 5 - 8
    return Content.assemble(
        (f"{wording.SIGNS['running']} ", wording.STYLES["running"]),
        wording.fit(wording.plain(f"{task.phase} {name}"), named),
        (done, wording.STYLES["running"]),
        (rest, "$rule"),
        wording.fit(f" {task.fraction:4.0%}" if task.total else "", 5),
        (wording.fit(spent, 8, right=True), "$secondary"),
        (wording.fit(told, room).rstrip() if room >= 12 else "", "$secondary"),
    )


class Causes(Section):
    """Failures, clustered by their cause."""

    TITLE = "Failures"

    def heading(self) -> str:
        """The title with the numbers of cells and causes."""
        causes = self.view.causes.values()
        cells = sum(cause.num_cells for cause in causes)
        told = f"Failures: {cells} failed, {wording.plural(len(causes), 'cause')} (f)"
        return told if causes else self.TITLE

    def render(self) -> Content:
        """Two lines a cause."""
        causes = sorted(self.view.causes.values(), key=lambda cause: -cause.num_cells)
        if not causes:
            return Content.styled("none", "$secondary")
        lines: list[Content] = []
        for cause in causes:
            counted = f"{wording.plural(cause.num_cells, 'cell')}, {wording.plural(cause.num_tasks, 'task')}"
            head = (f"{wording.SIGNS['failed']} {wording.plain(cause.name)} ", wording.STYLES["failed"])
            lines.append(Content.assemble(head, (counted, "$secondary")))
            lines.append(Content("  " + wording.fit(wording.plain(cause.example), self.size.width - 2).rstrip()))
        if len(lines) > self.size.height > 1:
            lines = [*lines[: self.size.height - 1], Content.styled("more: press f", "$secondary")]
        return Content("\n").join(lines)


class Latest(Section):
    """The end of the log."""

    TITLE = "Latest"

    def render(self) -> Content:
        """As many lines as fit."""
        start = start_of(self.view)
        lines = list(self.view.log)[-max(1, self.size.height) :]
        return Content("\n").join(log_line(line, start, self.size.width) for line in lines)

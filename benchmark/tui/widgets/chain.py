"""The sixth screen: the graph of tasks by phase, what was in the store, why the rest runs, and the tasks of a phase."""

from collections import Counter

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from benchmark.events import RunStarted
from benchmark.tui import wording
from benchmark.tui.axes import needs_of_phases
from benchmark.tui.records import PhaseView, TaskState, TaskView
from benchmark.tui.state import View
from benchmark.tui.widgets.rows import Rows

MAX_TASKS = 200
"""Tasks listed of a phase; those that need a person first."""
ORDER = (
    TaskState.FAILED,
    TaskState.RUNNING,
    TaskState.SKIPPED,
    TaskState.WAITING,
    TaskState.FINISHED,
    TaskState.CACHED,
)
PHASE_COLUMNS = ("phase", "tasks", "cached", "made", "open", "needs", "why it has to run")
TASK_COLUMNS = ("task", "state", "time", "of", "why", "needs")


class Chain(Vertical):
    """A table of phases, each after those that it needs, and a table of the tasks of the chosen one."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        self.phase = ""
        self._drawn = -1
        self._planned: RunStarted | None = None
        self._needs: dict[str, list[str]] = {}
        self._reasons: dict[str, Counter[str]] = {}

    def compose(self) -> ComposeResult:
        """Two tables and a line between them."""
        yield Rows("phases", PHASE_COLUMNS, right=("tasks", "cached", "made", "open"))
        yield Static(id="of-phase")
        yield Rows("tasks", TASK_COLUMNS, right=("time",))

    def show(self, now: float) -> None:
        """Draw the graph as it is."""
        del now
        if self.view.num_events == self._drawn or not self.view.phases:
            return
        self._drawn = self.view.num_events
        if self.view.run is not self._planned:
            self._planned = self.view.run
            self._needs, self._reasons = needs_of_phases(self.view.tasks), _reasons(self.view)
        rows = [self._phase_row(phase, self._reasons.get(phase.name, Counter())) for phase in self.view.phases.values()]
        self._table("phases").show(rows)
        self.phase = self.phase if self.phase in self.view.phases else next(iter(self.view.phases))
        self._show_tasks()

    def choose(self, phase: str) -> None:
        """Show the tasks of `phase`."""
        self.show(0.0)
        if phase in self.view.phases:
            self._table("phases").move_to(list(self.view.phases).index(phase))

    @on(Rows.Moved)
    def _moved(self, event: Rows.Moved) -> None:
        names = list(self.view.phases)
        if event.rows.id == "phases" and event.place < len(names):
            self.phase = names[event.place]
            self._show_tasks()

    def _show_tasks(self) -> None:
        tasks = [task for task in self.view.tasks.values() if task.phase == self.phase]
        tasks.sort(key=lambda task: ORDER.index(task.state))
        cut = f", the first {MAX_TASKS}" if len(tasks) > MAX_TASKS else ""
        told = f" {wording.plain(self.phase)}: {wording.plural(len(tasks), 'task')}{cut}"
        self.query_one("#of-phase", Static).update(Content(told))
        self._table("tasks").show([self._task_row(task) for task in tasks[:MAX_TASKS]])

    def _phase_row(self, phase: PhaseView, reasons: Counter[str]) -> list[str]:
        cached, made = phase.counts[TaskState.CACHED], phase.counts[TaskState.FINISHED]
        why = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
        needs = " ".join(self._needs.get(phase.name, [])) or "-"
        return [phase.name, str(phase.total), str(cached), str(made), str(phase.total - cached - made), needs, why]

    def _task_row(self, task: TaskView) -> list[str]:
        state = f"{wording.sign(task.state)} {task.state.value}"
        why = "in the store" if task.state is TaskState.CACHED else task.why
        needs = " ".join(f"{role} {key[:8]}" for role, key in task.inputs.items())
        seconds = wording.duration(task.seconds)
        return [task.key[:12], state, seconds, self.view.name_of(task) or "all cells", why, needs]

    def _table(self, name: str) -> Rows:
        return self.query_one(f"#{name}", Rows)


def _reasons(view: View) -> dict[str, Counter[str]]:
    """Phase -> why its tasks have to run, counted."""
    found: dict[str, Counter[str]] = {}
    for task in view.tasks.values():
        if task.why:
            found.setdefault(task.phase, Counter())[task.why] += 1
    return found

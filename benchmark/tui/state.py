"""The monitor's view of a run: a deterministic fold over the journal's events. Imports no textual.

    view = View()
    for event in events:
        view.apply(event)

An event costs constant time, whatever the size of the run; only `run_started` costs the size of its plan. Events may be
missing, repeated or out of order: what is final stays final, and attempts are told apart by their numbers.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import assert_never

from benchmark import events as e
from benchmark.tui.axes import axis_values, phase_order, short_name
from benchmark.tui.curve import Curve
from benchmark.tui.records import (
    FINAL,
    Cause,
    CellState,
    CellView,
    LogLine,
    PhaseView,
    TaskState,
    TaskView,
    WorkerView,
    worker_words,
)

MAX_LOG_LINES = 2_000
MAX_CURVES = 12
"""Metrics of a task that are drawn as a curve."""
MAX_TRACEBACK = 8_000
"""Characters kept of a traceback, from its end."""

TaskEvent = e.TaskCached | e.TaskStarted | e.TaskProgressed | e.TaskFinished | e.TaskFailed | e.TaskSkipped


def _log() -> deque[LogLine]:
    return deque(maxlen=MAX_LOG_LINES)


@dataclass(slots=True)
class View:
    """Everything the monitor draws."""

    run: e.RunStarted | None = None
    finish: e.RunFinished | None = None
    tasks: dict[str, TaskView] = field(default_factory=dict[str, TaskView])
    cells: dict[str, CellView] = field(default_factory=dict[str, CellView])
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Axis -> its labels in the plan, in order."""
    phases: dict[str, PhaseView] = field(default_factory=dict[str, PhaseView])
    running: dict[str, None] = field(default_factory=dict[str, None])
    """Keys of running tasks, in the order of their start."""
    workers: dict[str, WorkerView] = field(default_factory=dict[str, WorkerView])
    ended_by_minute: dict[int, int] = field(default_factory=dict[int, int])
    """Minute since the epoch -> tasks that were finished in it."""
    metric_names: dict[str, None] = field(default_factory=dict[str, None])
    """What finished cells have measured, in the order of its coming."""
    paused: bool = False
    causes: dict[str, Cause] = field(default_factory=dict[str, Cause])
    log: deque[LogLine] = field(default_factory=_log)
    num_log_lines: int = 0
    num_events: int = 0
    first_time: float | None = None
    last_time: float = 0.0

    def apply(self, event: e.AnyEvent) -> None:
        """Take one event in."""
        self.num_events += 1
        self.first_time = event.time if self.first_time is None else min(self.first_time, event.time)
        self.last_time = max(self.last_time, event.time)
        match event:
            case e.RunStarted():
                self._plan(event)
            case e.RunFinished():
                self._finish(event)
            case e.CellFinished():
                self._finish_cell(event)
            case e.CellFailed():
                self._fail_cell(event)
            case e.CellCancelled():
                self._cancel_cell(event)
            case e.CellReopened():
                self._reopen_cell(event)
            case e.RunPaused() | e.RunResumed():
                self.paused = isinstance(event, e.RunPaused)
                self._write(event.time, "warning", f"{'paused' if self.paused else 'resumed'} by {event.by}")
            case e.WorkersLoaded():
                for name, load in event.workers.items():
                    self._worker(name, event.time).load = load
            case e.Logged():
                self._write(event.time, event.level, event.message)
            case _:
                self._apply_to_task(self._task(event.key), event)

    def _apply_to_task(self, task: TaskView, event: TaskEvent) -> None:
        match event:
            case e.TaskCached():
                self._move(task, TaskState.CACHED)
            case e.TaskStarted():
                self._start(task, event)
            case e.TaskProgressed():
                _progress(task, event)
            case e.TaskFinished():
                self._finish_task(task, event)
            case e.TaskFailed():
                self._fail_task(task, event)
            case e.TaskSkipped():
                task.because = event.because
                task.note(event.time, "skipped" if event.because else "cancelled")
                self._move(task, TaskState.SKIPPED)
            case _:
                assert_never(event)

    # --- the run and its cells ----------------------------------------------------------------------------------------

    def _plan(self, event: e.RunStarted) -> None:
        self.run = event
        told = self.phases
        self.phases = {name: told.get(name, PhaseView(name)) for name in phase_order(event.tasks)} | told
        for info in event.tasks:
            task = self._task(info.key, info.phase)
            task.inputs, task.why = info.inputs, info.why
            if task.phase != info.phase:
                self._count(task, -1)
                task.phase = info.phase
                self._count(task, +1)
        self.phases = {name: phase for name, phase in self.phases.items() if phase.total}
        for position, info in enumerate(event.cells):
            self._plan_cell(position, info)
        self.axes = axis_values(self.cells.values())
        sizes = f"{len(event.cells)} cells, {len(event.tasks)} tasks, {event.workers} workers"
        self._write(event.time, "info", f"run {event.run} of {event.suite} started: {sizes}")

    def _plan_cell(self, position: int, info: e.CellInfo) -> None:
        cell = self._cell(info.id)
        cell.position, cell.labels = position, info.labels
        cell.tasks = {stage: self._task(key) for stage, key in info.tasks.items()}
        for task in cell.tasks.values():
            task.labels = info.labels if task.labels is None else _shared(task.labels, info.labels)

    def _finish(self, event: e.RunFinished) -> None:
        self.finish, self.paused = event, False
        for key in list(self.running):
            self._move(self.tasks[key], TaskState.WAITING)
        told = f"{event.finished_cells} cells finished, {event.failed_cells} failed"
        told += f", {event.cancelled_cells} cancelled" if event.cancelled_cells else ""
        self._write(event.time, "info", f"run ended with exit code {event.exit_code}: {told}")

    def _finish_cell(self, event: e.CellFinished) -> None:
        cell = self._cell(event.cell)
        cell.outcome, cell.metrics = CellState.FINISHED, event.metrics
        self.metric_names.update(dict.fromkeys(event.metrics))
        psnr = event.metrics.get("psnr")
        told = "" if psnr is None else f": {psnr:.1f} dB"
        self._write(event.time, "info", f"cell {self.name_of(cell)} finished{told}")

    def _fail_cell(self, event: e.CellFailed) -> None:
        cell = self._cell(event.cell)
        if cell.outcome is not None:
            return
        cell.outcome, cell.failed_key, cell.cause = CellState.FAILED, event.key, event.cause
        self._cause(event.cause).num_cells += 1
        self._write(event.time, "error", f"cell {self.name_of(cell)} failed: {event.cause}")

    def _cancel_cell(self, event: e.CellCancelled) -> None:
        cell = self._cell(event.cell)
        if cell.outcome is None:
            cell.outcome = CellState.CANCELLED
            self._write(event.time, "warning", f"cell {self.name_of(cell)} cancelled by {event.by}")

    def _reopen_cell(self, event: e.CellReopened) -> None:
        """The one way back from a final state: what failed before is forgotten, as far as this cell needs it."""
        cell = self._cell(event.cell)
        if cell.outcome is CellState.FAILED:
            self._uncount(cell.cause, cells=1)
        if cell.outcome is not CellState.FINISHED:
            cell.outcome, cell.failed_key, cell.cause = None, "", ""
        for key in event.tasks:
            self._reopen_task(self._task(key), event.time)
        self._write(event.time, "warning", f"cell {self.name_of(cell)} tried again, asked by {event.by}")

    def _reopen_task(self, task: TaskView, time: float) -> None:
        if task.state not in (TaskState.FAILED, TaskState.SKIPPED):
            return
        if task.failure is not None and task.failure.final:
            self._uncount(task.failure.cause, tasks=1)
        self._count(task, -1)
        task.state, task.failure, task.because = TaskState.WAITING, None, ""
        self._count(task, +1)
        task.note(time, "tried again")

    def _uncount(self, cause: str, tasks: int = 0, cells: int = 0) -> None:
        known = self._cause(cause)
        known.num_tasks, known.num_cells = known.num_tasks - tasks, known.num_cells - cells
        if known.num_tasks <= 0 and known.num_cells <= 0:
            del self.causes[cause]

    def name_of(self, item: CellView | TaskView) -> str:
        """What tells a cell or a task from its like: labels of the axes that vary; for a cell without any, its id."""
        name = short_name(item.labels or {}, self.axes)
        return name or (item.id if isinstance(item, CellView) else "")

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _start(self, task: TaskView, event: e.TaskStarted) -> None:
        self._worker(event.worker, event.time)
        if event.attempt <= task.attempt:
            return
        task.attempt, task.worker, task.started = event.attempt, event.worker, event.time
        again = f", attempt {event.attempt}" if event.attempt > 1 else ""
        task.note(event.time, f"started on {worker_words(event.worker)}{again}")
        if self.finish is None and event.attempt > task.failed_attempt:
            task.step, task.total, task.curves = 0, 0, {}
            self._move(task, TaskState.RUNNING)

    def _finish_task(self, task: TaskView, event: e.TaskFinished) -> None:
        if task.state is TaskState.FINISHED:
            return
        task.seconds, task.metrics = event.seconds, event.metrics
        self._move(task, TaskState.FINISHED)
        task.note(event.time, f"finished in {event.seconds:.1f} s")
        minute = int(event.time // 60)
        self.ended_by_minute[minute] = self.ended_by_minute.get(minute, 0) + 1
        self._credit(task, event.seconds)

    def _fail_task(self, task: TaskView, event: e.TaskFailed) -> None:
        if event.attempt <= task.failed_attempt:
            return
        task.failed_attempt = event.attempt
        task.failure = event.model_copy(update={"traceback": event.traceback[-MAX_TRACEBACK:]})
        task.note(event.time, f"failed: {event.cause}: {event.message}")
        self._credit(task, max(0.0, event.time - task.started) if task.started is not None else 0.0)
        if event.final:
            cause = self._cause(event.cause)
            cause.example, cause.num_tasks = cause.example or event.message, cause.num_tasks + 1
            self._move(task, TaskState.FAILED)
        elif task.attempt <= event.attempt:
            self._move(task, TaskState.WAITING)
        task_name = f"{task.phase} {self.name_of(task) or task.key[:8]}"
        told = f"{task_name}, attempt {event.attempt}: {event.cause}: {event.message}"
        self._write(event.time, "error" if event.final else "warning", told)

    def _credit(self, task: TaskView, seconds: float) -> None:
        if task.worker:
            worker = self._worker(task.worker, self.last_time)
            worker.num_ended, worker.busy_seconds = worker.num_ended + 1, worker.busy_seconds + seconds

    def _move(self, task: TaskView, state: TaskState) -> None:
        """Give `task` a new state, unless it has a final one that beats it."""
        if task.state in FINAL and (state not in FINAL or FINAL.index(state) < FINAL.index(task.state)):
            return
        self._count(task, -1)
        task.state = state
        self._count(task, +1)
        if state is TaskState.RUNNING:
            self.running[task.key] = None
        else:
            self.running.pop(task.key, None)

    def _count(self, task: TaskView, change: int) -> None:
        phase = self.phases.get(task.phase)
        if phase is None:
            phase = self.phases[task.phase] = PhaseView(task.phase)
        phase.counts[task.state] += change
        if task.state is TaskState.FINISHED:
            phase.seconds += change * (task.seconds or 0.0)

    # --- finding or making --------------------------------------------------------------------------------------------

    def _task(self, key: str, phase: str = "?") -> TaskView:
        task = self.tasks.get(key)
        if task is None:
            task = self.tasks[key] = TaskView(key, phase)
            self._count(task, +1)
        return task

    def _cell(self, cell_id: str) -> CellView:
        cell = self.cells.get(cell_id)
        if cell is None:
            cell = self.cells[cell_id] = CellView(cell_id, position=len(self.cells))
        return cell

    def _worker(self, name: str, time: float) -> WorkerView:
        return self.workers.setdefault(name, WorkerView(name, first_time=time))

    def _cause(self, name: str) -> Cause:
        return self.causes.setdefault(name, Cause(name))

    def _write(self, time: float, level: str, message: str) -> None:
        self.num_log_lines += 1
        self.log.append(LogLine(self.num_log_lines, time, level, message))


def _shared(labels: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    """The labels that both have."""
    if labels.items() <= others.items():
        return labels
    return {axis: label for axis, label in labels.items() if others.get(axis) == label}


def _progress(task: TaskView, event: e.TaskProgressed) -> None:
    task.step, task.total = event.step, event.total
    if task.state not in FINAL:
        task.metrics = event.metrics
    for name, value in event.metrics.items():
        if name in task.curves or len(task.curves) < MAX_CURVES:
            task.curves.setdefault(name, Curve()).add(value)

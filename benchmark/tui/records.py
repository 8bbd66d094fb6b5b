"""What the monitor knows of each task, cell, phase and cause of failure."""

from dataclasses import dataclass, field
from enum import StrEnum

from benchmark.events import TaskFailed, WorkerLoad
from benchmark.tui.curve import Curve


class TaskState(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"
    RUNNING = "running"
    SKIPPED = "skipped"
    FAILED = "failed"
    CACHED = "cached"
    FINISHED = "finished"


FINAL = (TaskState.SKIPPED, TaskState.FAILED, TaskState.CACHED, TaskState.FINISHED)
"""States without a way back; a later one in this order beats an earlier one."""

IN_STORE = (TaskState.CACHED, TaskState.FINISHED)
"""States of a task whose artefact is in the store."""


class CellState(StrEnum):
    """Where a cell stands."""

    WAITING = "waiting"
    RUNNING = "running"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    FAILED = "failed"
    FINISHED = "finished"


MAX_HISTORY = 24

Moment = tuple[float, str]
"""Seconds since the epoch, and what happened then."""


def worker_words(name: str) -> str:
    """`worker 0` for a worker that is only numbered; any other by its name, or by its address without the protocol."""
    return f"worker {name}" if name.isdigit() else name.removeprefix("tcp://")


@dataclass(slots=True)
class TaskView:
    """A task as the journal has told it so far."""

    key: str
    phase: str = "?"
    state: TaskState = TaskState.WAITING
    attempt: int = -1
    """Number of the latest attempt that started; -1 before the first."""
    failed_attempt: int = -1
    """Number of the latest attempt that failed; -1 before the first."""
    worker: str = ""
    started: float | None = None
    seconds: float | None = None
    step: int = 0
    total: int = 0
    labels: dict[str, str] | None = None
    """Axis labels that all cells standing on it share; None before the plan."""
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    curves: dict[str, Curve] = field(default_factory=dict[str, Curve])
    failure: TaskFailed | None = None
    because: str = ""
    """Key of the task that kept this one from running; empty where nobody wants it any more."""
    inputs: dict[str, str] = field(default_factory=dict[str, str])
    """Role -> key."""
    why: str = ""
    """Why it has to be made."""
    history: list[Moment] = field(default_factory=list[Moment])
    """What happened to it, at most `MAX_HISTORY` entries."""

    @property
    def fraction(self) -> float:
        """Part of the task that is done, from 0 to 1."""
        return min(1.0, max(0.0, self.step / self.total)) if self.total > 0 else 0.0

    def note(self, time: float, words: str) -> None:
        """Remember what happened."""
        if len(self.history) < MAX_HISTORY:
            self.history.append((time, words))


@dataclass(slots=True)
class CellView:
    """A cell; its state follows from its outcome, else from its tasks."""

    id: str
    position: int = 0
    """Place in the plan."""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    tasks: dict[str, TaskView] = field(default_factory=dict[str, TaskView], compare=False, repr=False)
    """Stage name -> task, in the plan's order."""
    outcome: CellState | None = None
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    failed_key: str = ""
    cause: str = ""

    @property
    def state(self) -> CellState:
        """Where the cell stands."""
        if self.outcome is not None:
            return self.outcome
        found = CellState.WAITING
        for task in self.tasks.values():  # asked for all cells at every drawing: no set is built
            state = task.state
            if state is TaskState.FAILED:
                return CellState.FAILED
            if state is TaskState.SKIPPED:
                found = CellState.SKIPPED
            elif state is TaskState.RUNNING and found is CellState.WAITING:
                found = CellState.RUNNING
        return found

    @property
    def running_stage(self) -> str:
        """The last of its stages that runs at the moment, or nothing."""
        running = [stage for stage, task in self.tasks.items() if task.state is TaskState.RUNNING]
        return running[-1] if running else ""

    @property
    def num_done(self) -> int:
        """Tasks whose artefact is in the store."""
        return sum(task.state in IN_STORE for task in self.tasks.values())


@dataclass(slots=True)
class PhaseView:
    """All tasks of a phase, counted."""

    name: str
    counts: dict[TaskState, int] = field(default_factory=lambda: dict.fromkeys(TaskState, 0))
    seconds: float = 0.0
    """Sum over its finished tasks."""

    @property
    def total(self) -> int:
        """Number of tasks."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Tasks whose artefact is in the store."""
        return sum(self.counts[state] for state in IN_STORE)

    @property
    def open(self) -> int:
        """Tasks yet to end."""
        return self.counts[TaskState.WAITING] + self.counts[TaskState.RUNNING]

    @property
    def mean_seconds(self) -> float | None:
        """Mean duration of a finished task; None while there is none."""
        finished = self.counts[TaskState.FINISHED]
        return self.seconds / finished if finished else None


@dataclass(slots=True)
class WorkerView:
    """A worker process."""

    name: str
    num_ended: int = 0
    """Attempts that it has brought to an end."""
    busy_seconds: float = 0.0
    """Of those."""
    first_time: float = 0.0
    """When it was first heard of; seconds since the epoch."""
    load: WorkerLoad | None = None
    """What it used when it was last asked; None before."""


@dataclass(slots=True)
class Cause:
    """Failures of one kind."""

    name: str
    example: str = ""
    """Message of the first of them."""
    num_tasks: int = 0
    num_cells: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log; `number` counts from 1 and never repeats."""

    number: int
    time: float
    level: str
    message: str

"""The typed events of a run: what the journal holds and the monitor folds."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Event(BaseModel):
    """Something that happened in a run; `time` is seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float


class TaskInfo(BaseModel):
    """A task of the plan, as the monitor needs it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    phase: str
    inputs: dict[str, str]
    """Role -> key."""
    why: str = ""
    """Why it has to be made, where the store lacks it."""


class CellInfo(BaseModel):
    """A cell of the plan: its axis labels, and the tasks it stands on (stage name -> key)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    labels: dict[str, str]
    tasks: dict[str, str]


class RunStarted(Event):
    """A driver has planned its run and begins."""

    event: Literal["run_started"] = "run_started"
    run: str
    suite: str
    pid: int
    host: str
    workers: int
    """0 where tasks run in the driver's own process."""
    tasks: tuple[TaskInfo, ...]
    cells: tuple[CellInfo, ...]
    tracking_uri: str | None = None
    suite_file: str | None = None
    """Where the suite was read from, for `bridge bench retry`."""


class TaskCached(Event):
    """The store had this task's artefact already."""

    event: Literal["task_cached"] = "task_cached"
    key: str


class TaskStarted(Event):
    """A worker has taken the task up."""

    event: Literal["task_started"] = "task_started"
    key: str
    worker: str
    attempt: int


class TaskProgressed(Event):
    """A running task tells how far it is."""

    event: Literal["task_progressed"] = "task_progressed"
    key: str
    step: int
    total: int
    metrics: dict[str, float]


class TaskFinished(Event):
    """The task's artefact is in the store. `metrics` are means of its facts that are not curves."""

    event: Literal["task_finished"] = "task_finished"
    key: str
    seconds: float
    metrics: dict[str, float]


class TaskFailed(Event):
    """An attempt has failed; with `final`, no other will be made in this run."""

    event: Literal["task_failed"] = "task_failed"
    key: str
    attempt: int
    cause: str
    """The exception's name, or `WorkerLost`, `OutOfMemory`, `Timeout`: failures are clustered by it."""
    message: str
    traceback: str
    final: bool


class TaskSkipped(Event):
    """Not run, since `because` (a key) failed; without a key, since its cells were cancelled."""

    event: Literal["task_skipped"] = "task_skipped"
    key: str
    because: str


class CellFinished(Event):
    """All tasks of a cell are done; `metrics` are means over its secrets."""

    event: Literal["cell_finished"] = "cell_finished"
    cell: str
    metrics: dict[str, float]


class CellFailed(Event):
    """A task of the cell has failed for good."""

    event: Literal["cell_failed"] = "cell_failed"
    cell: str
    key: str
    cause: str


class CellCancelled(Event):
    """Somebody has asked for the cell to be left out; what of it runs already is finished for others."""

    event: Literal["cell_cancelled"] = "cell_cancelled"
    cell: str
    by: str = ""


class CellReopened(Event):
    """A failed or cancelled cell is wanted again; `tasks` are the keys that wait again for it."""

    event: Literal["cell_reopened"] = "cell_reopened"
    cell: str
    tasks: tuple[str, ...]
    by: str = ""


class RunPaused(Event):
    """No task is started from now on; those that run go on to their end."""

    event: Literal["run_paused"] = "run_paused"
    by: str = ""


class RunResumed(Event):
    """Tasks are started again."""

    event: Literal["run_resumed"] = "run_resumed"
    by: str = ""


class WorkerLoad(BaseModel):
    """What a worker process uses: `cpu` in percent of one core, `memory` in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: float
    memory: int
    memory_limit: int = 0
    """Bytes; 0 where there is none."""


class WorkersLoaded(Event):
    """What the workers use at the moment, told every few seconds."""

    event: Literal["workers_loaded"] = "workers_loaded"
    workers: dict[str, WorkerLoad]


class Logged(Event):
    """A line for the log."""

    event: Literal["logged"] = "logged"
    level: Literal["info", "warning", "error"]
    message: str


class RunFinished(Event):
    """The driver is done; `exit_code` is what the command returns."""

    event: Literal["run_finished"] = "run_finished"
    exit_code: int
    finished_cells: int
    failed_cells: int
    cancelled_cells: int = 0


AnyEvent = Annotated[
    RunStarted
    | TaskCached
    | TaskStarted
    | TaskProgressed
    | TaskFinished
    | TaskFailed
    | TaskSkipped
    | CellFinished
    | CellFailed
    | CellCancelled
    | CellReopened
    | RunPaused
    | RunResumed
    | WorkersLoaded
    | Logged
    | RunFinished,
    Field(discriminator="event"),
]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)

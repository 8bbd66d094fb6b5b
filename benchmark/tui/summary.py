"""What the screens show of a view: counts, time left, the grid of two axes. Pure functions."""

import math
from collections import Counter
from dataclasses import dataclass, field

from benchmark.tui.axes import in_order, natural
from benchmark.tui.records import CellState, CellView, PhaseView, WorkerView
from benchmark.tui.state import View

RATE_MINUTES = 5
"""Throughput is told of so many last minutes."""
Square = tuple[tuple[str, ...], str]
"""Labels of the row's axes, label of the column."""


@dataclass(frozen=True)
class TimeLeft:
    """An estimate; not `complete` where a phase has not told yet how long it takes, so that it is a lower bound."""

    seconds: float
    complete: bool


@dataclass
class Group:
    """The cells of one square of the grid."""

    states: Counter[CellState] = field(default_factory=Counter[CellState])
    values: list[float] = field(default_factory=list[float])
    """The metric of its finished cells, NaN included."""

    @property
    def total(self) -> int:
        """Number of cells."""
        return self.states.total()

    @property
    def mean(self) -> float | None:
        """Mean of the metric; None where nothing was measured."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the metric over cells; None under two values."""
        mean = self.mean
        if mean is None or len(self.values) < 2:
            return None
        return math.sqrt(sum((value - mean) ** 2 for value in self.values) / (len(self.values) - 1))

    def add(self, cell: CellView, metric: str) -> None:
        """Count `cell`."""
        state = cell.state
        self.states[state] += 1
        if state is CellState.FINISHED and metric in cell.metrics:
            self.values.append(cell.metrics[metric])


@dataclass(frozen=True)
class Grid:
    """Cells grouped by rows and columns."""

    row_axes: tuple[str, ...]
    column_axis: str
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]
    groups: dict[Square, Group]


def grid(view: View, row_axes: tuple[str, ...], column_axis: str, metric: str = "psnr") -> Grid:
    """Group all cells of `view` by their labels on `row_axes` and `column_axis`."""
    groups: dict[Square, Group] = {}
    for cell in view.cells.values():
        square = tuple([cell.labels.get(axis, "") for axis in row_axes]), cell.labels.get(column_axis, "")
        if square not in groups:
            groups[square] = Group()
        groups[square].add(cell, metric)
    columns = in_order(column for _, column in groups)
    return Grid(row_axes, column_axis, _ordered_rows([row for row, _ in groups], len(row_axes)), columns, groups)


def _ordered_rows(rows: list[tuple[str, ...]], num_axes: int) -> tuple[tuple[str, ...], ...]:
    places = [
        {label: place for place, label in enumerate(in_order(row[axis] for row in rows))} for axis in range(num_axes)
    ]

    def place(row: tuple[str, ...]) -> list[int]:
        return [places[axis][label] for axis, label in enumerate(row)]

    return tuple(sorted(set(rows), key=place))


def cell_counts(view: View) -> Counter[CellState]:
    """Cells by state."""
    return Counter(cell.state for cell in view.cells.values())


def elapsed(view: View, now: float) -> float:
    """Seconds since the run's start, up to its end if it has one."""
    if view.run is None:
        return 0.0
    return max(0.0, (view.finish.time if view.finish else max(now, view.last_time)) - view.run.time)


def time_left(view: View, now: float) -> TimeLeft | None:
    """Mean seconds of each phase times its open tasks, over the workers; None before any phase can be estimated."""
    seconds, complete, known = 0.0, True, False
    guesses = _guesses(view, now)
    for phase in view.phases.values():
        mean = phase.mean_seconds if phase.mean_seconds is not None else guesses.get(phase.name)
        if phase.open and mean is None:
            complete = False
        elif phase.open and mean is not None:
            known, seconds = True, seconds + mean * phase.open - _spent(view, phase.name, mean, now)
    workers = max(1, view.run.workers if view.run else 1)
    return TimeLeft(max(0.0, seconds) / workers, complete) if known else None


def phase_left(view: View, phase: PhaseView, now: float) -> float | None:
    """Seconds of work left in a phase, over the workers; None where it is over or nothing is known of it."""
    mean = phase.mean_seconds if phase.mean_seconds is not None else _guesses(view, now).get(phase.name)
    if mean is None or not phase.open or view.finish is not None:
        return None
    workers = max(1, view.run.workers if view.run else 1)
    return max(0.0, mean * phase.open - _spent(view, phase.name, mean, now)) / workers


def throughput(view: View, now: float) -> float | None:
    """Tasks finished a minute, over the last whole minutes of work; None before the first is finished."""
    if not view.ended_by_minute or view.run is None:
        return None
    end = view.finish.time if view.finish else max(now, view.last_time)
    since = view.run.time if view.finish else max(view.run.time, end - RATE_MINUTES * 60)
    first = int(since // 60)
    count = sum(number for minute, number in view.ended_by_minute.items() if minute >= first)
    return count / max(1 / 6, (end - max(since, first * 60)) / 60)


def recent_counts(view: View, now: float, minutes: int) -> list[float]:
    """Tasks finished in each of the last `minutes` minutes of the run, the present one last."""
    last = int((view.finish.time if view.finish else max(now, view.last_time)) // 60)
    first = int(view.run.time // 60) if view.run else last
    return [float(view.ended_by_minute.get(minute, 0)) for minute in range(max(first, last - minutes + 1), last + 1)]


def busy_share(worker: WorkerView, view: View, now: float) -> float:
    """Part of its time that a worker has worked, from 0 to 1; what it runs now counts."""
    end = view.finish.time if view.finish else max(now, view.last_time)
    running = [view.tasks[key] for key in view.running if view.tasks[key].worker == worker.name]
    present = sum(max(0.0, end - task.started) for task in running if task.started is not None)
    return min(1.0, (worker.busy_seconds + present) / max(1e-9, end - worker.first_time))


def _spent(view: View, phase: str, mean: float, now: float) -> float:
    """Seconds that the phase's running tasks have had, none above the mean."""
    running = [task for key in view.running if (task := view.tasks[key]).phase == phase]
    return sum(min(mean, max(0.0, now - task.started)) for task in running if task.started is not None)


def _guesses(view: View, now: float) -> dict[str, float]:
    """Phase -> seconds of a whole task, from how far its running tasks are."""
    tasks = [view.tasks[key] for key in view.running]
    return {
        task.phase: max(0.0, now - task.started) / task.fraction
        for task in tasks
        if task.started is not None and task.fraction > 0
    }


def present_tasks(view: View) -> dict[str, list[str]]:
    """Worker -> keys of the tasks it runs now; a worker that idles has none."""
    present: dict[str, list[str]] = {worker: [] for worker in sorted(view.workers, key=natural)}
    for key in view.running:
        present.setdefault(view.tasks[key].worker, []).append(key)
    return present
